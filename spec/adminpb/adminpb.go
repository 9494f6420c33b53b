// Package adminpb is what operators and programs ask of a node, generated from
// admin.proto.
package adminpb

//go:generate sh -c "go build -o ./.gen/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc && go run wellknown.go > .gen/wellknown && PATH=$PWD/.gen:$PATH protoc --descriptor_set_in=.gen/wellknown --proto_path=. --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative admin.proto; s=$?; rm -r .gen; exit $s"
