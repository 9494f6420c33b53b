package peer

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// wire stands between two pipes. It can be cut, or fall silent without an end, as
// when a host vanishes.
type wire struct {
	near, far *carrier.Pipe
	wg        sync.WaitGroup

	mu     sync.Mutex
	frozen chan struct{} // closed: nothing passes
	conns  []net.Conn
	down   bool // who dials is let in and thrown out
	dials  int
}

func newWire(t *testing.T, p *pair) *wire {
	w := &wire{near: carrier.NewPipe(), far: p.pipe, frozen: make(chan struct{})}
	p.pipe = w.near // where the line dials; the server listens on the other
	w.wg.Go(w.serve)
	t.Cleanup(func() {
		p.line.Close()
		w.near.Close()
		w.cut()
		w.wg.Wait()
	})
	return w
}

func (w *wire) serve() {
	for {
		a, err := w.near.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		w.dials++
		down := w.down
		w.mu.Unlock()
		if down {
			a.Close()
			continue
		}
		b, err := w.far.Dial(context.Background())
		if err != nil {
			a.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, a, b)
		frozen := w.frozen
		w.mu.Unlock()
		w.wg.Go(func() { pass(a, b, frozen) })
		w.wg.Go(func() { pass(b, a, frozen) })
	}
}

func pass(to, from net.Conn, frozen chan struct{}) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-frozen:
			_, _ = io.Copy(io.Discard, from)
			return
		default:
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// freeze lets nothing pass any more on the connections there are.
func (w *wire) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.frozen)
	w.frozen = make(chan struct{})
}

// TestCut: a call whose connection is lost ends as Lost at both ends, in the
// middle of its bytes too; the next one has a new session.
func TestCut(t *testing.T) {
	for _, tc := range []struct {
		what string
		harm func(*wire)
	}{{"cut", (*wire).cut}, {"silent", (*wire).freeze}} {
		t.Run(tc.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := start(t, "pipe")
				w := newWire(t, p)
				entered, left := make(chan struct{}), make(chan error, 1)
				p.fake.serve = func(ctx context.Context, _ engine.Ask, e engine.Effect) (engine.Answer, error) {
					close(entered)
					err := e.Run(ctx, &sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Local: sideeffect.Writer(stuck{ctx}), Quota: sideeffect.NoQuota}, sideeffect.AwaitLocal)
					left <- err
					return engine.Answer{}, err
				}
				failed := make(chan error, 1)
				go func() {
					_, err := p.line.Call(t.Context(), "paris", ask(lifecycle.Transfer), &sideeffect.Descriptor{Direction: sideeffect.ClientToServer,
						Local: sideeffect.Memory(make([]byte, 9<<20)), Quota: sideeffect.NoQuota})
					failed <- err
				}()
				<-entered
				synctest.Wait()
				tc.harm(w)
				harmed := time.Now()
				err := <-failed
				if k := fault.KindOf(err); k != fault.Lost && k != fault.DeadPeer {
					t.Errorf("%v: %v", k, err)
				}
				if took := time.Since(harmed); took > 20*time.Second {
					t.Errorf("the caller found out after %v", took)
				}
				if err := <-left; err == nil {
					t.Error("the partner has taken all")
				}
				p.fake.mu.Lock()
				p.fake.serve = nil
				p.fake.mu.Unlock()
				for tries := 0; ; tries++ { // the pipe's other end may still be taken
					_, err := p.line.Call(t.Context(), "paris", ask(lifecycle.Prepare), nil)
					if err == nil {
						break
					}
					if fault.KindOf(err) != fault.Lost || tries == 5 {
						t.Fatalf("the next call: %v", err)
					}
					time.Sleep(10 * time.Second)
				}
			})
		})
	}
}

// TestNothingDialsBehind: while a partner is down each call is one attempt, nobody
// dials between them, and the first call when it is back goes through.
func TestNothingDialsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, "pipe")
		w := newWire(t, p)
		call := func() error {
			_, err := p.line.Call(t.Context(), "paris", ask(lifecycle.Prepare), nil)
			return err
		}
		if err := call(); err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.down = true
		w.mu.Unlock()
		w.cut()
		synctest.Wait()
		for range 3 {
			w.mu.Lock()
			before := w.dials
			w.mu.Unlock()
			wantKind(t, call(), fault.Lost)
			time.Sleep(time.Minute)
			synctest.Wait()
			w.mu.Lock()
			if n := w.dials - before; n > 1 {
				t.Errorf("%d attempts for one call", n)
			}
			w.mu.Unlock()
		}
		w.mu.Lock()
		w.down = false
		w.mu.Unlock()
		if err := call(); err != nil {
			t.Errorf("it is back: %v", err)
		}
	})
}

// TestCutWhileIdle: a connection that was lost between calls costs the next one
// nothing, although the session before has the only place there is.
func TestCutWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, "pipe")
		w := newWire(t, p)
		for range 3 {
			if _, err := p.line.Call(t.Context(), "paris", ask(lifecycle.Prepare), nil); err != nil {
				t.Fatal(err)
			}
			w.cut()
			time.Sleep(10 * time.Second)
		}
	})
}

// entering tells that it is written to.
type entering struct {
	stuck
	entered chan<- struct{}
}

func (e entering) Write(p []byte) (int, error) {
	e.entered <- struct{}{}
	return e.stuck.Write(p)
}

// stuck takes nothing until its call is over.
type stuck struct{ ctx context.Context }

func (s stuck) Write([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}
