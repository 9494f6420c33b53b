// Package bridgepb is generated from bridge.proto: what a host and a plugin with a bridge say to
// each other. spec/plugin.md says what it means.
package bridgepb

//go:generate sh -c "go build -o ./.gen/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc && PATH=$PWD/.gen:$PATH protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative bridge.proto; s=$?; rm -r .gen; exit $s"
