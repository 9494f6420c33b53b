// Package peerpb is what nodes say to each other about requests, generated from
// peer.proto.
package peerpb

//go:generate sh -c "go build -o ./.gen/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc && PATH=$PWD/.gen:$PATH protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative peer.proto; s=$?; rm -r .gen; exit $s"
