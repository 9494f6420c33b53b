package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/pannier/pannier/cmd/pannier/benchpb"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// sessionServer stores what comes beside its calls.
type sessionServer struct {
	grpcServer
	c    sessionCase
	root *os.Root

	rooms [][]byte // targets in memory, by number; sessionCase.memory only

	mu    sync.Mutex
	taken map[int][]byte // content of targets by number; sessionCase.memory only
}

func (s *sessionServer) Put(ctx context.Context, in *benchpb.File) (*benchpb.Stored, error) {
	effect, err := rpc.SideEffect(ctx)
	if err != nil {
		return nil, err
	}
	i := int(in.GetFile())
	d := sideeffect.Descriptor{
		Direction: sideeffect.ClientToServer, Quota: sideeffect.NoQuota, Mode: sideeffect.CreateNew, Hash: s.c.hash,
	}
	var room []byte
	if s.c.memory {
		room = s.rooms[i]
		d.Local = sideeffect.Memory(room)
	} else {
		d.Local = sideeffect.File(s.root, filepath.Base(s.job.Target(i)))
	}
	if err := effect.Run(ctx, &d, sideeffect.AwaitRemote); err != nil {
		return nil, err
	}
	if s.c.memory {
		s.take(i, room[:d.BytesTransferred])
	}
	return &benchpb.Stored{Bytes: d.BytesTransferred}, nil
}

// prepare makes the targets in memory, all pages of them, before the clock
// starts: what is measured is moving bytes and not the kernel clearing pages.
func (s *sessionServer) prepare() {
	if !s.c.memory {
		return
	}
	for range s.job.Concurrent {
		room := make([]byte, s.job.Size)
		for at := 0; at < len(room); at += os.Getpagesize() {
			room[at] = 1
		}
		s.rooms = append(s.rooms, room)
	}
}

// Exchange takes or gives a payload as the call's effect, if it has one.
func (s *sessionServer) Exchange(ctx context.Context, in *benchpb.Note) (*benchpb.Note, error) {
	effects := rpc.SideEffects(ctx)
	if len(effects) == 0 {
		return s.grpcServer.Exchange(ctx, in)
	}
	size := s.c.up
	if effects[0].Direction() == sideeffect.ServerToClient {
		size = int(in.GetWant())
	}
	if size > maxNote {
		return nil, fault.New("exchange", fault.TooLong, "%d bytes wanted, at most %d", size, maxNote)
	}
	d := sideeffect.Descriptor{
		Direction: effects[0].Direction(), Local: sideeffect.Memory(make([]byte, size)), Quota: sideeffect.NoQuota,
	}
	if err := effects[0].Run(ctx, &d, sideeffect.AwaitLocal); err != nil {
		return nil, err
	}
	return &benchpb.Note{}, nil
}

func (s *sessionServer) take(i int, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken == nil {
		s.taken = map[int][]byte{}
	}
	s.taken[i] = content
}

// keep writes targets that are memory where they can be verified, after the
// clock has stopped.
func (s *sessionServer) keep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for i, content := range s.taken {
		errs = append(errs, os.WriteFile(s.job.Target(i), content, 0o600))
	}
	return fault.Wrap("keep targets", "", errors.Join(errs...))
}
