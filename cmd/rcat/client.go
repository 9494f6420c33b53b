package main

import (
	"context"

	"github.com/pannier/pannier/cmd/rcat/rcatpb"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
)

// client makes the two calls of rcat.proto.
type client struct {
	conn *rpc.ClientConn
	stub rcatpb.RcatClient // as protoc generated it
}

// dial makes a client; it connects with the first call. The connection is made
// by rpc.Dial instead of grpc.NewClient: that is all that calls with side
// effects need.
func dial(address string, cfg rpc.ClientConfig) (*client, error) {
	conn, err := rpc.Dial(address, cfg)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, stub: rcatpb.NewRcatClient(conn)}, nil
}

func (c *client) close() error { return c.conn.Close() }

// get makes a call that moves the server's file to wherever here says: a file,
// memory, a writer. The side effect rides on the call like any other option.
// When get returns, the results are in here.
func (c *client) get(ctx context.Context, path string, offset int64, here *sideeffect.Descriptor) error {
	here.Direction = sideeffect.ServerToClient
	_, err := c.stub.Get(ctx, &rcatpb.GetRequest{Path: path, Offset: offset}, rpc.With(here))
	return err
}

// put is get in the other direction. With an offset (nil: none) the server
// writes into its existing file instead of replacing it.
func (c *client) put(ctx context.Context, path string, offset *int64, here *sideeffect.Descriptor) error {
	here.Direction = sideeffect.ClientToServer
	_, err := c.stub.Put(ctx, &rcatpb.PutRequest{Path: path, Offset: offset, Resume: here.Resume}, rpc.With(here))
	return err
}
