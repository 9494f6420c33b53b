package rpc_test

import (
	"context"
	"fmt"
	"os"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
)

// shelf is a service of one call, which takes a file or gives one.
type shelf struct {
	storepb.UnimplementedStoreServer
	root *os.Root // no name leads out of it
}

func (s *shelf) Call(ctx context.Context, item *storepb.Item) (*storepb.Receipt, error) {
	se, err := rpc.SideEffect(ctx) // what the client has attached
	if err != nil {
		return nil, err
	}
	there := sideeffect.Descriptor{
		Direction: se.Direction(), // most handlers know theirs, and name it here
		Local:     sideeffect.File(s.root, item.GetName()),
		Quota:     1 << 20,
	}
	if err := se.Run(ctx, &there, sideeffect.AwaitLocal); err != nil {
		return nil, err // the client finds the *fault.Error in its error
	}
	return &storepb.Receipt{Name: item.GetName(), Bytes: there.BytesTransferred}, nil
}

// A server and a client in one process; a file goes to the server and comes back.
// Between hosts the address is "tls://host:port", and both ends have an
// Identity and Pins.
func Example() {
	dir, err := os.MkdirTemp("", "shelf")
	check(err)
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	check(err)
	defer root.Close()

	pipe := carrier.NewPipe()
	server, err := rpc.NewServer(rpc.ServerConfig{Pipe: pipe})
	check(err)
	defer server.Stop()
	storepb.RegisterStoreServer(server, &shelf{root: root}) // as on a grpc.Server, which it is
	_, err = server.Listen("pipe:")
	check(err)
	go server.Serve()

	cc, err := rpc.Dial("pipe:", rpc.ClientConfig{Pipe: pipe}) // instead of grpc.NewClient
	check(err)
	defer cc.Close()
	client := storepb.NewStoreClient(cc)

	up := sideeffect.Descriptor{
		Direction: sideeffect.ClientToServer,
		Local:     sideeffect.Memory([]byte("cargo")), // or File, FD, Reader
		Quota:     sideeffect.NoQuota,
		Hash:      sideeffect.SHA256,
	}
	receipt, err := client.Call(context.Background(), &storepb.Item{Name: "parcel"}, rpc.With(&up))
	check(err)
	fmt.Println("put", receipt.GetName(), receipt.GetBytes())
	fmt.Println(up.BytesTransferred, up.LocalStatus, up.RemoteStatus, up.Result.Road, up.Verified)

	down := sideeffect.Descriptor{
		Direction: sideeffect.ServerToClient,
		Local:     sideeffect.Writer(os.Stdout), // or File, FD, Buffer
		Quota:     sideeffect.NoQuota,
	}
	_, err = client.Call(context.Background(), &storepb.Item{Name: "parcel"}, rpc.With(&down))
	check(err)
	fmt.Println()
	fmt.Println(down.BytesTransferred, down.LocalStatus, down.RemoteStatus, down.Result.Road, down.Verified)
	// Output:
	// put parcel 5
	// 5 success success inline blocks+root+sha256
	// cargo
	// 5 success success inline blocks+root
}

// check is enough error handling for an example.
func check(err error) {
	if err != nil {
		panic(err)
	}
}
