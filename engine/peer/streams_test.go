package peer

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// hub answers each stream with the name of who opened it, and keeps its sessions.
type hub struct {
	mu       sync.Mutex
	attached map[*flow.Session]string
	detached []string
	changed  chan struct{}
	opens    chan error // if there is one: a stream is opened as soon as a session is there, and how that ends
	handling func()     // if there is one: Handle begins with it
}

func newHub() *hub {
	return &hub{attached: map[*flow.Session]string{}, changed: make(chan struct{}, 100)}
}

func (h *hub) Attach(partner string, s *flow.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attached[s] = partner
	h.changed <- struct{}{}
	if h.opens != nil {
		go func() {
			_, err := whose(context.Background(), s)
			h.opens <- err
		}()
	}
}

func (h *hub) Detach(partner string, s *flow.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.attached, s)
	h.detached = append(h.detached, partner)
}

func (h *hub) Handle(partner string, _ *flow.Session, in *flow.Incoming) {
	if h.handling != nil {
		h.handling()
	}
	go func() {
		st, err := in.AcceptBytes([]byte(partner))
		if err == nil {
			_ = st.CloseWrite()
			_, _ = io.Copy(io.Discard, st)
			_ = st.Close()
		}
	}()
}

// only is the one session there is.
func (h *hub) only(t *testing.T) (*flow.Session, string) {
	t.Helper()
	select {
	case <-h.changed:
	case <-within(t).Done():
		t.Fatal("no session")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s, name := range h.attached {
		return s, name
	}
	t.Fatal("no session")
	return nil, ""
}

func whose(ctx context.Context, s *flow.Session) (string, error) {
	st, err := s.OpenBytes(ctx, flow.Open{Kind: "relay"})
	if err != nil {
		return "", err
	}
	_ = st.CloseWrite()
	_, err = io.Copy(io.Discard, st)
	_ = st.Close()
	return string(st.Meta()), err
}

// withHubs gives both nodes Streams.
func withHubs(t *testing.T, scheme string, lyon, paris *hub) *pair {
	p := start(t, scheme, func(p *pair) { p.options.Streams = paris })
	p.line.Close()
	o := p.line.o
	o.Streams = lyon
	p.line = must(NewLine(o))
	t.Cleanup(func() { p.line.Close() })
	return p
}

// TestStreams: a session of either end's dialling is told of at both under the proven
// name of the other, who may then open streams; when the book says otherwise, the session
// ends, and there is another one when the book knows the partner again.
func TestStreams(t *testing.T) {
	for _, scheme := range carriers {
		t.Run(scheme, func(t *testing.T) {
			lyon, paris := newHub(), newHub()
			paris.opens = make(chan error, 3)
			p := withHubs(t, scheme, lyon, paris)
			ctx := within(t)
			if _, err := p.line.Reach(ctx, "paris"); err != nil {
				t.Fatal(err)
			}
			if err := <-paris.opens; err != nil {
				t.Errorf("a stream that comes before the name was said: %v", err)
			}
			near, name := lyon.only(t)
			if name != "paris" {
				t.Errorf("lyon has a session with %q", name)
			}
			far, name := paris.only(t)
			if name != "lyon" {
				t.Errorf("paris has a session with %q", name)
			}
			for want, s := range map[string]*flow.Session{"lyon": near, "paris": far} {
				if got, err := whose(ctx, s); got != want || err != nil {
					t.Errorf("the stream is of %q, %v; want %q", got, err, want)
				}
			}
			if err := p.server.SetBook(engine.Book{}); err != nil {
				t.Fatal(err)
			}
			if len(paris.attached) != 0 || len(paris.detached) != 1 || paris.detached[0] != "lyon" {
				t.Errorf("attached %v, detached %v", paris.attached, paris.detached)
			}
			_, err := whose(ctx, near)
			wantKind(t, err, fault.Unauthenticated)
			if err := p.server.SetBook(p.book); err != nil {
				t.Fatal(err)
			}
			if _, err := p.line.Reach(ctx, "paris"); err != nil {
				t.Errorf("it is known again: %v", err)
			}
		})
	}
}

// TestStreamsHandledOrDetached: a stream that is handled for a partner is handed on before that one's session is taken back,
// so that whoever takes both finds it.
func TestStreamsHandledOrDetached(t *testing.T) {
	lyon, paris := newHub(), newHub()
	p := withHubs(t, "tls", lyon, paris)
	must(p.line.Reach(within(t), "paris"))
	near, _ := lyon.only(t)
	paris.only(t)
	forgotten := make(chan error, 1)
	paris.handling = func() {
		go func() { forgotten <- p.server.SetBook(engine.Book{}) }()
		select {
		case <-forgotten:
			t.Error("the session was taken back while a stream was handled as its partner's")
			forgotten <- nil
		case <-time.After(300 * time.Millisecond): // what must not come
		}
	}
	if _, err := whose(within(t), near); err != nil && fault.KindOf(err) != fault.Unauthenticated {
		t.Error(err)
	}
	if err := <-forgotten; err != nil || len(paris.detached) != 1 {
		t.Errorf("%v, detached %v", err, paris.detached)
	}
}

// TestStreamsUnknown: a node that takes no streams is not told of as one that does.
func TestStreamsUnknown(t *testing.T) {
	lyon := newHub()
	p := start(t, "tls")
	o := p.line.o
	o.Streams = lyon
	line := must(NewLine(o))
	defer line.Close()
	if _, err := line.Reach(within(t), "paris"); err != nil {
		t.Fatal(err)
	}
	if len(lyon.attached) != 0 {
		t.Errorf("attached %v", lyon.attached)
	}
}

// TestStreamsKeepTheSession: a session on which no call is made for a day is the same
// afterwards.
func TestStreamsKeepTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lyon, paris := newHub(), newHub()
		p := withHubs(t, "pipe", lyon, paris)
		defer func() { p.line.Close(); p.server.Stop() }()
		for range 2 {
			if _, err := p.line.Reach(t.Context(), "paris"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(24 * time.Hour)
		}
		if len(lyon.attached) != 1 || len(paris.attached) != 1 {
			t.Errorf("%d and %d sessions", len(lyon.attached), len(paris.attached))
		}
	})
}

// stale makes the road to paris one whose gRPC connection is gone.
func (p *pair) stale() {
	p.line.mu.Lock()
	defer p.line.mu.Unlock()
	p.line.detach(p.line.roads["paris"])
}

// TestStreamsOutliveTheRoad: a session that calls do not use any more goes on for whom
// streams are open on it, who may open others there, as a listener does for each connection and
// FTP for each file; it is closed when the last one is over.
func TestStreamsOutliveTheRoad(t *testing.T) {
	lyon, paris := newHub(), newHub()
	p := withHubs(t, "tls", lyon, paris)
	ctx := within(t)
	must(p.line.Reach(ctx, "paris"))
	near, _ := lyon.only(t)
	far, _ := paris.only(t)
	st := must(near.OpenBytes(ctx, flow.Open{Kind: "relay"}))
	p.stale()
	must(p.line.Reach(ctx, "paris")) // over a session of its own
	for want, s := range map[string]*flow.Session{"lyon": near, "paris": far} {
		if got, err := whose(ctx, s); got != want || err != nil {
			t.Errorf("the stream is of %q, %v; want %q", got, err, want)
		}
	}
	_ = st.CloseWrite()
	_, _ = io.Copy(io.Discard, st)
	_ = st.Close()
	select {
	case <-near.Done():
	case <-ctx.Done():
		t.Error("nobody uses the session, and it goes on")
	}
}

// TestForgetLeftSessions: a partner whose keys have changed has no session left either
// that only streams go on over.
func TestForgetLeftSessions(t *testing.T) {
	lyon, paris := newHub(), newHub()
	p := withHubs(t, "tls", lyon, paris)
	ctx := within(t)
	for _, again := range []bool{true, false} { // beside another road, and without one
		must(p.line.Reach(ctx, "paris"))
		near, _ := lyon.only(t)
		st := must(near.OpenBytes(ctx, flow.Open{Kind: "relay"}))
		p.stale()
		if again {
			must(p.line.Reach(ctx, "paris"))
			lyon.only(t)
		}
		p.line.Forget("paris")
		if near.Err() == nil {
			t.Error("the session goes on")
		}
		if _, err := st.Write([]byte("x")); err == nil {
			t.Error("the stream goes on")
		}
		lyon.mu.Lock()
		clear(lyon.attached)
		lyon.mu.Unlock()
	}
}

// TestStreamsOutliveASinglePipe: where a carrier has one connection at a time, a call after
// that was lost goes over the session that has come back, or is about to, with the streams on it.
func TestStreamsOutliveASinglePipe(t *testing.T) {
	for _, pause := range []time.Duration{0, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			lyon, paris := newHub(), newHub()
			p := withHubs(t, "pipe", lyon, paris)
			w := newWire(t, p)
			defer func() { p.line.Close(); p.server.Stop() }()
			call := func() {
				t.Helper()
				if _, err := p.line.Call(t.Context(), "paris", ask(lifecycle.Prepare), nil); err != nil {
					t.Error(err)
				}
			}
			call()
			near, _ := lyon.only(t)
			st := must(near.OpenBytes(t.Context(), flow.Open{Kind: "relay", Resume: true}))
			w.cut()
			time.Sleep(pause)
			synctest.Wait()
			call()
			if _, err := st.Write([]byte("x")); near.Err() != nil || err != nil {
				t.Errorf("after %v: session %v, stream %v", pause, near.Err(), err)
			}
		})
	}
}
