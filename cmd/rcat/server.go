package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/cmd/rcat/rcatpb"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// service answers the two calls of rcat.proto. It is an ordinary gRPC service:
// the generated code knows nothing of side effects.
type service struct {
	rcatpb.UnimplementedRcatServer
	root     *os.Root // no name leads out of it
	writable bool
	quota    int64 // most bytes of one Put
}

// newServer makes a grpc.Server whose handlers find side effects in their
// contexts. Interceptors and other options of gRPC work as ever.
func newServer(s *service, cfg rpc.ServerConfig, options ...grpc.ServerOption) (*rpc.Server, error) {
	server, err := rpc.NewServer(cfg, options...)
	if err != nil {
		return nil, err
	}
	rcatpb.RegisterRcatServer(server, s)
	return server, nil
}

// Get is the server's half of "rcat get".
func (s *service) Get(ctx context.Context, r *rcatpb.GetRequest) (*rcatpb.GetReply, error) {
	effect, err := rpc.SideEffect(ctx) // what the client has attached with rpc.With
	if err != nil {
		return nil, err
	}
	if err := unfinished("get", r.GetPath()); err != nil {
		return nil, err
	}
	// What the errors of a descriptor say beyond their kind stays at this end; an
	// offset that the client chose is for the handler to talk about.
	if fi, err := s.root.Stat(r.GetPath()); err == nil && fi.Mode().IsRegular() && r.GetOffset() > fi.Size() {
		return nil, fault.New("get", fault.Invalid, "offset %d is outside the file of %d bytes", r.GetOffset(), fi.Size())
	}
	// Each end describes the transfer to itself. The client's descriptor may name
	// a file, a buffer or its standard output; this end neither knows nor cares.
	there := &sideeffect.Descriptor{
		Direction: sideeffect.ServerToClient,
		Local:     sideeffect.File(s.root, r.GetPath()),
		Offset:    r.GetOffset(),
		Quota:     sideeffect.NoQuota,
	}
	// AwaitLocal: nothing here depends on what the client makes of the bytes,
	// so a small file may ride inside the reply.
	return &rcatpb.GetReply{}, effect.Run(ctx, there, sideeffect.AwaitLocal)
}

// Put is the server's half of "rcat put".
func (s *service) Put(ctx context.Context, r *rcatpb.PutRequest) (*rcatpb.PutReply, error) {
	if !s.writable { // a call that fails before Run moves nothing
		return nil, fault.New("put", fault.Permission, "this server only gives files; its owner lets files in with: rcat serve --writable")
	}
	effect, err := rpc.SideEffect(ctx)
	if err != nil {
		return nil, err
	}
	if err := unfinished("put", r.GetPath()); err != nil {
		return nil, err
	}
	there := &sideeffect.Descriptor{
		Direction: sideeffect.ClientToServer,
		Local:     sideeffect.File(s.root, r.GetPath()),
		Mode:      sideeffect.Replace, // the old file or the whole new one, never less
		Quota:     s.quota,
		Resume:    r.GetResume(),
	}
	if r.Offset != nil { // in place; AtOffset alone would make a file that is not there
		if _, err := s.root.Stat(r.GetPath()); errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New("put", fault.NotFound, "an offset writes into an existing file, and %q is not there; a put without an offset makes it", fault.Shown(r.GetPath()))
		}
		there.Mode, there.Offset = sideeffect.AtOffset, r.GetOffset()
	}
	if err := effect.Run(ctx, there, sideeffect.AwaitLocal); err != nil {
		return nil, err
	}
	return &rcatpb.PutReply{Bytes: there.BytesTransferred}, nil // outputs are in the same descriptor
}

// unfinished refuses, before anything is said of it, a name that only files have
// which are still arriving. A descriptor would refuse it as well.
func unfinished(op, name string) error {
	p, err := relpath.Parse(name)
	if err != nil {
		return nil // the descriptor says what is wrong with it
	}
	return sideeffect.RefuseOwn(op, p)
}
