package rpc_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
)

// shelf is a service whose handler keeps what rides along with a call.
type shelf struct {
	storepb.UnimplementedStoreServer
	kept bytes.Buffer
}

func (s *shelf) Call(ctx context.Context, item *storepb.Item) (*storepb.Receipt, error) {
	se, err := rpc.SideEffect(ctx)
	if err != nil {
		return nil, err
	}
	d := sideeffect.Descriptor{
		Direction: sideeffect.ClientToServer,
		Local:     sideeffect.Buffer(&s.kept),
		Quota:     1 << 20,
	}
	if err := se.Run(ctx, &d, sideeffect.AwaitRemote); err != nil {
		return nil, err // the client finds the *fault.Error in its error
	}
	return &storepb.Receipt{Name: item.GetName(), Bytes: d.BytesTransferred}, nil
}

// A server and a client in one process. Between hosts the address is
// "tls://host:port", and both ends have an Identity and Pins.
func Example() {
	pipe := carrier.NewPipe()
	server, err := rpc.NewServer(rpc.ServerConfig{Pipe: pipe})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Stop()
	storepb.RegisterStoreServer(server, &shelf{})
	if _, err := server.Listen("pipe:"); err != nil {
		fmt.Println(err)
		return
	}
	go server.Serve()

	cc, err := rpc.Dial("pipe:", rpc.ClientConfig{Pipe: pipe})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cc.Close()
	d := sideeffect.Descriptor{
		Direction: sideeffect.ClientToServer,
		Local:     sideeffect.Memory([]byte("cargo")),
		Quota:     sideeffect.NoQuota,
		Hash:      sideeffect.SHA256,
	}
	receipt, err := storepb.NewStoreClient(cc).Call(context.Background(), &storepb.Item{Name: "parcel"}, rpc.With(&d))
	fmt.Println(receipt.GetName(), receipt.GetBytes(), err)
	fmt.Println(d.BytesTransferred, d.LocalStatus, d.RemoteStatus, d.Result.Road, d.Verified)
	// Output:
	// parcel 5 <nil>
	// 5 success success inline blocks+root+sha256
}
