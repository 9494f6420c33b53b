package rpc_test

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
)

// deafDialer makes connections whose peer stops reading when deaf is closed.
type deafDialer struct {
	flow.Dialer
	deaf chan struct{}
}

func (d deafDialer) Dial(ctx context.Context) (net.Conn, error) {
	c, err := d.Dialer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return &deafConn{Conn: c, deaf: d.deaf, closed: make(chan struct{}), late: make(chan struct{})}, nil
}

// deafConn is one of them: a Write waits until it may not any more.
type deafConn struct {
	net.Conn
	deaf, closed chan struct{}
	mu           sync.Mutex
	timer        *time.Timer
	late         chan struct{}
	once         sync.Once
}

func (c *deafConn) Write(p []byte) (int, error) {
	select {
	case <-c.deaf:
		c.mu.Lock()
		late := c.late
		c.mu.Unlock()
		select {
		case <-c.closed:
			return 0, net.ErrClosed
		case <-late:
			return 0, os.ErrDeadlineExceeded
		}
	default:
		return c.Conn.Write(p)
	}
}

func (c *deafConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	select {
	case <-c.late:
		c.late = make(chan struct{})
	default:
	}
	if late := c.late; !t.IsZero() {
		c.timer = time.AfterFunc(time.Until(t), func() { close(late) })
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c *deafConn) SetDeadline(t time.Time) error {
	_ = c.SetWriteDeadline(t)
	return c.Conn.SetReadDeadline(t)
}

func (c *deafConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// atDeafPeer calls do with a client whose server stops reading at deaf.
func atDeafPeer(t *testing.T, handler func(context.Context, *storepb.Item) (*storepb.Receipt, error), do func(t *testing.T, cc *rpc.ClientConn, deaf func())) {
	synctest.Test(t, func(t *testing.T) {
		pipe := carrier.NewPipe()
		s := must(rpc.NewServer(rpc.ServerConfig{Pipe: pipe}))
		storepb.RegisterStoreServer(s, &store{call: handler})
		must(s.Listen("pipe:"))
		served := make(chan error, 1)
		go func() { served <- s.Serve() }()
		d := deafDialer{pipe, make(chan struct{})}
		cc := must(rpc.DialOver(d, rpc.ClientConfig{}))
		do(t, cc, func() { close(d.deaf) })
		cc.Close()
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// TestCancelAtADeafPeer: a caller that gives up while its half waits for the other one has its call back at once,
// although the peer reads nothing, so that not even the cancelling gets through.
func TestCancelAtADeafPeer(t *testing.T) {
	for what, upload := range map[string]bool{"upload": true, "download": false} {
		t.Run(what, func(t *testing.T) {
			var stuck stuck
			handler := run(func() *sideeffect.Descriptor {
				if upload {
					return up(sideeffect.Writer(stuck))
				}
				return down(sideeffect.Reader(stuck, -1))
			}, sideeffect.AwaitRemote)
			atDeafPeer(t, handler, func(t *testing.T, cc *rpc.ClientConn, deaf func()) {
				stuck.over = make(chan struct{})
				defer close(stuck.over)
				ctx, cancel := context.WithCancel(t.Context())
				called := make(chan error, 1)
				go func() {
					mine := down(sideeffect.Writer(io.Discard))
					if upload {
						mine = up(sideeffect.Memory(make([]byte, 64<<20)))
					}
					_, err := storepb.NewStoreClient(cc).Call(ctx, &storepb.Item{}, rpc.With(mine))
					called <- err
				}()
				synctest.Wait()
				deaf()
				gone := time.Now()
				cancel()
				if err := <-called; err == nil || time.Since(gone) > 0 {
					t.Errorf("the call has its end after %v: %v", time.Since(gone), err)
				}
			})
		})
	}
}

// TestOpenAtADeafPeer: neither does who opens a stream wait for longer than its context says.
func TestOpenAtADeafPeer(t *testing.T) {
	atDeafPeer(t, nil, func(t *testing.T, cc *rpc.ClientConn, deaf func()) {
		s := must(cc.Connect(t.Context()))
		deaf()
		for what, open := range map[string]func(context.Context) error{
			"blocks": func(ctx context.Context) error { _, err := s.OpenBlocks(ctx, flow.Open{Kind: "x"}); return err },
			"bytes":  func(ctx context.Context) error { _, err := s.OpenBytes(ctx, flow.Open{Kind: "x"}); return err },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			began := time.Now()
			if err := open(ctx); err == nil || time.Since(began) > time.Second {
				t.Errorf("%s: after %v: %v", what, time.Since(began), err)
			}
			cancel()
		}
	})
}

// stuck is a reader and writer that waits until over.
type stuck struct{ over chan struct{} }

func (s stuck) Write(p []byte) (int, error) { <-s.over; return len(p), nil }

func (s stuck) Read(p []byte) (int, error) { return s.Write(p) }
