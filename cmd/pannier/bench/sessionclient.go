package bench

import (
	"context"
	"os"
	"path/filepath"

	"github.com/pannier/pannier/cmd/pannier/benchpb"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// sessionClient calls and moves files over one session.
type sessionClient struct {
	c       sessionCase
	job     Job
	root    *os.Root
	cc      *rpc.ClientConn
	stub    benchpb.BenchClient
	content []byte // of the source; sessionCase.memory only
	payload []byte // sent by a call
	room    []byte // for what a call brings back
}

func (s *sessionClient) Close() error {
	var err error
	if s.cc != nil {
		err = s.cc.Close()
	}
	s.root.Close() // read only
	return err
}

func (s *sessionClient) Move(ctx context.Context, i int) error {
	d := sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Quota: sideeffect.NoQuota, Hash: s.c.hash}
	if d.Local = sideeffect.File(s.root, filepath.Base(s.job.Source())); s.c.memory {
		d.Local = sideeffect.Memory(s.content)
	}
	stored, err := s.stub.Put(ctx, &benchpb.File{File: uint32(i)}, rpc.With(&d))
	if err != nil {
		return callFault("put", err)
	}
	if err := s.took(&d, s.job.Size); err != nil {
		return err
	}
	return sameLength(d.BytesTransferred, stored.GetBytes())
}

// took checks that an effect moved n bytes by the road of the case, with the
// digest of the case.
func (s *sessionClient) took(d *sideeffect.Descriptor, n int64) error {
	road := s.c.road()
	if n <= rpc.MaxInline {
		road = sideeffect.RoadInline // what RoadAuto takes for a tiny --size
	}
	if d.Result.Road != road || d.BytesTransferred != n || d.Digest.IsZero() != (s.c.hash == sideeffect.None) {
		return fault.New("check effect", fault.Internal, "%d bytes by road %v with digest %v; %s moves %d by %v with %v",
			d.BytesTransferred, d.Result.Road, d.Digest, s.c.name, n, road, s.c.hash)
	}
	return nil
}

// Call is a call without effects, unless the case has a payload.
func (s *sessionClient) Call(ctx context.Context) error {
	note := &benchpb.Note{Want: uint32(s.c.down)}
	var d sideeffect.Descriptor
	switch {
	case s.c.up > 0:
		d = sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Local: sideeffect.Memory(s.payload), Quota: sideeffect.NoQuota}
	case s.c.down > 0:
		d = sideeffect.Descriptor{Direction: sideeffect.ServerToClient, Local: sideeffect.Memory(s.room), Quota: sideeffect.NoQuota}
	default:
		if _, err := s.stub.Exchange(ctx, note); err != nil {
			return callFault("call", err)
		}
		return nil
	}
	if _, err := s.stub.Exchange(ctx, note, rpc.With(&d)); err != nil {
		return callFault("call", err)
	}
	return s.took(&d, int64(s.c.up+s.c.down))
}

// sessionCaller hides Move: a case of calls has no source to speak of.
type sessionCaller struct{ client *sessionClient }

func (s sessionCaller) Call(ctx context.Context) error { return s.client.Call(ctx) }
func (s sessionCaller) Close() error                   { return s.client.Close() }
