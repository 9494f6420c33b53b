// Package adminpb is what operators and programs ask of a node, generated from
// admin.proto.
package adminpb

import _ "embed"

// OpenAPI is the document of the REST twin, OpenAPI 2.
//
//go:embed admin.swagger.json
var OpenAPI []byte

//go:generate sh -c "go build -o ./.gen/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2 && go run wellknown.go > .gen/wellknown && PATH=$PWD/.gen:$PATH protoc --descriptor_set_in=.gen/wellknown --proto_path=. --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative --grpc-gateway_out=. --grpc-gateway_opt=paths=source_relative --openapiv2_out=. --openapiv2_opt=disable_default_errors=true admin.proto; s=$?; rm -r .gen; exit $s"
