package rpc_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/spec/fault"
)

// What a resumable sink has on its disk stays when its peer goes away, whatever it is at just
// then, and whoever is the first to notice.

// TestGivenUpWhileLooking: a call ends while its sink still reads what it has kept.
func TestGivenUpWhileLooking(t *testing.T) {
	onSessions(t, func(t *testing.T, p *pair, ctx context.Context) {
		for _, upload := range []bool{true, false} {
			r := newResumed(t, p, upload)
			r.breakOff(ctx)
			ended, cancel := context.WithCancel(ctx)
			r.disk = func(op string) error {
				if op == "read" {
					cancel()
				}
				return nil
			}
			if _, _, err := r.call(ended); err == nil {
				t.Fatal("the call was not broken off")
			}
			cancel()
			r.disk = nil
			r.goOn(ctx, true)
		}
	})
}

// TestPeerRestarted: a peer dies, and is there again before its sink here has come to the end
// of a write: what that hears first is that nobody knows the session any more.
func TestPeerRestarted(t *testing.T) {
	first, second, ctx := start(t, "tcp", setup{withoutClient: true}), start(t, "tcp", setup{withoutClient: true}), within(t)
	d := &lossy{lead: must(carrier.NewDialer(first.address, carrier.Options{}))}
	cc := must(rpc.DialOver(d, rpc.ClientConfig{}))
	defer cc.Close()
	first.stub, second.stub = storepb.NewStoreClient(cc), storepb.NewStoreClient(cc)
	session := must(cc.Connect(ctx))
	r, writes := newResumed(t, first, false), 0
	r.disk = func(op string) error {
		if op != "write" {
			return nil
		}
		if writes++; writes == 20 {
			for _, c := range d.leadTo(must(carrier.NewDialer(second.address, carrier.Options{}))) {
				c.Close()
			}
			<-session.Done()
		}
		return nil
	}
	if _, _, err := r.call(ctx); err == nil {
		t.Fatal("the call was not broken off")
	}
	wantKind(t, session.Err(), fault.Stale)
	must(cc.Connect(ctx)) // whatever gRPC's pause is
	r.disk, r.p = nil, second
	r.goOn(ctx, true)
}

// TestSilentLoss: the connections end for the source alone, which gives its call up; the sink hears
// of it when the session goes on, without the stream.
func TestSilentLoss(t *testing.T) {
	p, ctx := start(t, "tcp", setup{withoutClient: true}), within(t)
	d := &lossy{lead: must(carrier.NewDialer(p.address, carrier.Options{}))}
	defer d.close()
	cc := must(rpc.DialOver(d, rpc.ClientConfig{}))
	defer cc.Close()
	p.stub = storepb.NewStoreClient(cc)
	session := must(cc.Connect(ctx))
	r, once := newResumed(t, p, true), sync.Once{}
	r.source.reading = func(off int64) error {
		if off >= resumeSize/2 {
			once.Do(func() {
				for _, c := range d.hold() {
					c.sever()
				}
			})
		}
		return nil
	}
	r.over = func() { d.let(); r.over = nil }
	if _, _, err := r.call(ctx); err == nil {
		t.Fatal("the call was not broken off")
	}
	if err := session.Err(); err != nil {
		t.Fatalf("the session has not gone on: %v", err)
	}
	must(cc.Connect(ctx)) // whatever gRPC's pause is
	r.goOn(ctx, true)
}

// lossy is a dialer whose connections can be lost to this end alone, and which can be led elsewhere.
type lossy struct {
	mu    sync.Mutex
	lead  *carrier.Dialer
	wait  chan struct{} // nobody dials before it is closed; nil: at once
	conns []*severed
	lost  []*severed // severed ones
}

func (e *lossy) Single() bool { return false }

func (e *lossy) Dial(ctx context.Context) (net.Conn, error) {
	e.mu.Lock()
	d, wait := e.lead, e.wait
	e.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	conn, err := d.Dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &severed{Conn: conn}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conns = append(e.conns, c)
	return c, nil
}

// leadTo has later connections made by d, and returns those there are.
func (e *lossy) leadTo(d *carrier.Dialer) []*severed {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.conns
	e.lead, e.conns = d, nil
	return all
}

// hold lets nobody dial until let, and returns the connections there are.
func (e *lossy) hold() []*severed {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wait = make(chan struct{})
	e.lost, e.conns = e.conns, nil
	return e.lost
}

func (e *lossy) let() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.wait)
}

// close closes what has been severed.
func (e *lossy) close() {
	for _, c := range e.lost {
		c.Conn.Close()
	}
}

// severed is a connection that can be lost at this end, of which the other one hears nothing.
type severed struct {
	net.Conn
	gone atomic.Bool
}

func (c *severed) sever() {
	c.gone.Store(true)
	_ = c.Conn.SetDeadline(time.Unix(1, 0)) // who waits is woken
}

func (c *severed) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.gone.Load() {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *severed) Write(p []byte) (int, error) {
	if c.gone.Load() {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (c *severed) SetDeadline(t time.Time) error {
	if c.gone.Load() {
		return net.ErrClosed
	}
	return c.Conn.SetDeadline(t)
}

func (c *severed) SetReadDeadline(t time.Time) error {
	if c.gone.Load() {
		return net.ErrClosed
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *severed) SetWriteDeadline(t time.Time) error {
	if c.gone.Load() {
		return net.ErrClosed
	}
	return c.Conn.SetWriteDeadline(t)
}

// Close leaves a severed one open: its other end is to hear nothing.
func (c *severed) Close() error {
	if c.gone.Load() {
		return nil
	}
	return c.Conn.Close()
}
