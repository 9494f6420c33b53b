package rpc_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
)

// freezer makes connections that can fall silent both ways without an end, as
// when a host vanishes.
type freezer struct {
	flow.Dialer
	frozen chan struct{}
	mu     sync.Mutex
	conns  []net.Conn
}

func (f *freezer) Dial(ctx context.Context) (net.Conn, error) {
	c, err := f.Dialer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.conns = append(f.conns, c)
	f.mu.Unlock()
	return frozenConn{c, f.frozen, make(chan struct{}), new(sync.Once)}, nil
}

// thaw ends the connections below at last.
func (f *freezer) thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.Close()
	}
}

type frozenConn struct {
	net.Conn
	frozen chan struct{}
	closed chan struct{}
	once   *sync.Once
}

func (c frozenConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.frozen:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c frozenConn) Write(p []byte) (int, error) {
	select {
	case <-c.frozen:
		return len(p), nil
	default:
		return c.Conn.Write(p)
	}
}

// Close is not seen at the other end of a frozen connection.
func (c frozenConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	select {
	case <-c.frozen:
		return c.Conn.SetReadDeadline(time.Unix(1, 0))
	default:
		return c.Conn.Close()
	}
}

// TestKeepaliveOverHTTP2: where gRPC's connection is not part of a session,
// either end finds out by itself that the other one has vanished.
func TestKeepaliveOverHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipe := carrier.NewPipe()
		s := must(rpc.NewServer(rpc.ServerConfig{Pipe: pipe}))
		entered, left := make(chan struct{}), make(chan time.Time, 1)
		storepb.RegisterStoreServer(s, &store{call: func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
			close(entered)
			<-ctx.Done()
			left <- time.Now()
			return nil, ctx.Err()
		}})
		must(s.Listen("pipe:"))
		served := make(chan error, 1)
		go func() { served <- s.Serve() }()
		f := &freezer{Dialer: pipe, frozen: make(chan struct{})}
		cc := must(rpc.DialOver(f, rpc.ClientConfig{HTTP2: true}))
		called := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			_, err := storepb.NewStoreClient(cc).Call(ctx, &storepb.Item{})
			called <- err
		}()
		<-entered
		close(f.frozen)
		frozen := time.Now()
		const most = 17 * time.Second // 10 s idle, 6 s patience
		wantCode(t, <-called, codes.Unavailable)
		if took := time.Since(frozen); took > most {
			t.Errorf("the client found out after %v", took)
		}
		if took := (<-left).Sub(frozen); took > most {
			t.Errorf("the server found out after %v", took)
		}
		cc.Close()
		s.Stop()
		f.thaw()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// TestPingsAreAllowed: the client's signs of life do not tire the server, however
// long a call is quiet.
func TestPingsAreAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipe := carrier.NewPipe()
		s := must(rpc.NewServer(rpc.ServerConfig{Pipe: pipe}))
		storepb.RegisterStoreServer(s, &store{call: func(ctx context.Context, _ *storepb.Item) (*storepb.Receipt, error) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Hour):
			}
			return &storepb.Receipt{}, ctx.Err()
		}})
		must(s.Listen("pipe:"))
		served := make(chan error, 1)
		go func() { served <- s.Serve() }()
		cc := must(rpc.DialOver(pipe, rpc.ClientConfig{HTTP2: true}))
		if _, err := storepb.NewStoreClient(cc).Call(t.Context(), &storepb.Item{}); err != nil {
			t.Error(err)
		}
		cc.Close()
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
