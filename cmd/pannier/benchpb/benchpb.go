// Package benchpb is the calls that the ends of a benchmark make.
package benchpb

//go:generate sh -c "go build -o ./.gen/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc && PATH=$PWD/.gen:$PATH protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative bench.proto; s=$?; rm -r .gen; exit $s"
