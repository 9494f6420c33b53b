package ftpd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/places"
	"github.com/pannier/pannier/spec/fault"
)

// server is one Serve.
type server struct {
	*config
	node plugins.Driver
	gate *gate
	soft context.Context // ends when nobody new is let in
	hard context.Context // ends when transfers may not go on
	last atomic.Uint64   // number of a client
}

// Serve is the Listen of a plugins.Server. It owns l, and returns nil when ctx has ended and
// the last client has left; transfers get the time of the option drain for that.
func Serve(ctx context.Context, l net.Listener, options map[string]string, node plugins.Driver) error {
	defer func() { _ = l.Close() }()
	cfg, err := configure(options)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	hard, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	s := &server{config: cfg, node: node, gate: newGate(cfg.most, cfg.each, cfg.failures), soft: ctx, hard: hard}
	context.AfterFunc(ctx, func() {
		_ = l.Close()
		late := time.NewTimer(cfg.drain)
		defer late.Stop()
		select {
		case <-late.C:
		case <-hard.Done():
		}
		end()
	})
	var clients sync.WaitGroup
	err = s.accept(l, &clients)
	stop()
	clients.Wait()
	return err
}

// accept lets clients in until the context ends.
func (s *server) accept(l net.Listener, clients *sync.WaitGroup) error {
	pause := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		switch {
		case s.soft.Err() != nil:
			if err == nil {
				_ = nc.Close()
			}
			return nil
		case err != nil && (errors.Is(err, net.ErrClosed) || !passing(err)):
			return fault.Wrap("ftp accept", l.Addr().String(), err)
		case err != nil:
			slog.Warn("no client can be accepted now", "error", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-s.soft.Done():
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		s.admit(nc, clients)
	}
}

// passing says whether accepting may go well later: a client was gone again, or there are no
// descriptors left.
func passing(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && t.Temporary()
}

// admit serves a client, or tells it why not.
func (s *server) admit(nc net.Conn, clients *sync.WaitGroup) {
	peer, ok1 := addressOf(nc.RemoteAddr())
	local, ok2 := addressOf(nc.LocalAddr())
	if !ok1 || !ok2 {
		slog.Error("a client of FTP has no TCP address", "client", nc.RemoteAddr())
		_ = nc.Close()
		return
	}
	c := s.client(nc, peer, local)
	place, err := s.gate.Enter(places.Source(peer), func() { c.leave(errDisplaced) })
	if err != nil {
		why := "There are too many connections."
		if errors.Is(err, places.ErrEach) {
			why = "There are too many connections from your address."
		}
		if s.tls != "implicit" { // where nothing is said in clear
			_ = nc.SetWriteDeadline(time.Now().Add(time.Second)) // the buffer of a new connection has room
			_, _ = nc.Write([]byte(say(421, "%s", why).text()))
		}
		_ = nc.Close()
		return
	}
	c.place = place
	clients.Go(func() {
		defer place.Exit()
		defer func() {
			_ = nc.Close()
			if v := recover(); v != nil {
				c.log.Error("serving a client has panicked", "panic", v, "stack", string(debug.Stack()))
			}
		}()
		c.serve()
	})
}
