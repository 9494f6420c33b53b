// Package rpcpb is what the two ends of a call with side effects say to each
// other, generated from effects.proto.
package rpcpb

//go:generate sh -c "go build -o ./.gen/ google.golang.org/protobuf/cmd/protoc-gen-go && PATH=$PWD/.gen:$PATH protoc --go_out=. --go_opt=paths=source_relative effects.proto; s=$?; rm -r .gen; exit $s"
