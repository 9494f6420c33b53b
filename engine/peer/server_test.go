package peer

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
)

// raw sends bytes as they are, and takes what comes.
type raw struct{}

func (raw) Name() string                  { return "proto" }
func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (raw) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = b
	return nil
}

// garbage is no message of any kind, so that a call that was parsed shows.
var garbage = []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3}

// methods are all that a node serves, and one that it does not.
func methods() []string {
	all := []string{"/pannier.peer.v1.Peer/Other", "/other.Service/Method", "/pannier.rpc.v1.Effects/Carry"}
	for _, m := range peerpb.Peer_ServiceDesc.Methods {
		all = append(all, "/"+peerpb.Peer_ServiceDesc.ServiceName+"/"+m.MethodName)
	}
	return all
}

// callAll calls every method with garbage and returns the codes.
func callAll(t *testing.T, cc *rpc.ClientConn) map[string]codes.Code {
	t.Helper()
	got := map[string]codes.Code{}
	for _, m := range methods() {
		var reply []byte
		got[m] = status.Code(cc.GRPC().Invoke(within(t), m, &garbage, &reply, grpc.ForceCodec(raw{})))
	}
	return got
}

func dialPair(t *testing.T, p *pair, id *carrier.Identity, http2 bool) *rpc.ClientConn {
	t.Helper()
	cfg := rpc.ClientConfig{Identity: id, HTTP2: http2, Pipe: p.pipe}
	if p.scheme == "tls" {
		cfg.Pins = carrier.Pins{p.paris.Key()}
	}
	cc := must(rpc.Dial(p.entry.Address, cfg))
	t.Cleanup(func() { cc.Close() })
	return cc
}

// TestEveryMethodNeedsAPartner: no method of the service, nor any other, takes a
// call whose caller is no partner, and its message is not even parsed.
func TestEveryMethodNeedsAPartner(t *testing.T) {
	if len(peerpb.Peer_ServiceDesc.Methods) != 8 || len(peerpb.Peer_ServiceDesc.Streams) != 0 {
		t.Fatal("the service has other methods than this test knows")
	}
	nobody := must(newBook(engine.Book{}))
	forget := func(p *pair) { p.server.book.Store(nobody) } // and nothing has looked at the sessions yet
	for _, tc := range []struct {
		what, scheme string
		http2        bool
		unproved     func(*pair) // after the connection is there
	}{
		{"session of a key that was removed", "tls", false, forget},
		{"HTTP/2 with a key that was removed", "tls", true, forget},
		{"session of a user that is no partner any more", "unix", false, forget},
		{"HTTP/2 of nobody", "unix", true, func(*pair) {}},
		{"session in memory of nobody", "pipe", false, forget},
	} {
		t.Run(tc.what, func(t *testing.T) {
			var log flowtest.Log
			p := start(t, tc.scheme, func(p *pair) { p.options.Flow.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			cc := dialPair(t, p, p.lyon, tc.http2)
			var before map[string]codes.Code
			if !tc.http2 || tc.scheme == "tls" {
				before = callAll(t, cc)
			}
			tc.unproved(p)
			for m, code := range callAll(t, cc) {
				if code != codes.Unauthenticated {
					t.Errorf("%s: %v", m, code)
				}
				if strings.Contains(m, "peer.v1.Peer/") && !strings.HasSuffix(m, "/Other") && before != nil && before[m] != codes.Internal {
					t.Errorf("%s of a partner, with garbage: %v", m, before[m])
				}
			}
			if p.fake.count() != 0 {
				t.Error("it was served")
			}
			if said := log.String(); !strings.Contains(said, "a call is refused") || tc.scheme == "tls" && !strings.Contains(said, p.lyon.Key()) {
				t.Errorf("the log has\n%s", said)
			}
		})
	}
}

// TestStrangers do not get as far as a call.
func TestStrangers(t *testing.T) {
	for _, tc := range []struct {
		what, scheme string
		http2        bool
		id           func(*pair) *carrier.Identity
		change       change
	}{
		{"another key", "tls", false, func(*pair) *carrier.Identity { return identity(t) }, func(*pair) {}},
		{"another key, HTTP/2", "tls", true, func(*pair) *carrier.Identity { return identity(t) }, func(*pair) {}},
		{"no certificate", "tls", true, func(*pair) *carrier.Identity { return nil }, func(*pair) {}},
		{"another user", "unix", false, func(p *pair) *carrier.Identity { return p.lyon }, func(p *pair) {
			p.options.UnixPartner = func(int) (string, error) { return "", fault.New("find user", fault.NotFound, "it has no name") }
		}},
		{"a user of no partner", "unix", false, func(p *pair) *carrier.Identity { return p.lyon }, func(p *pair) {
			p.options.UnixPartner = func(int) (string, error) { return "nice", nil }
		}},
		{"unix without names", "unix", false, func(p *pair) *carrier.Identity { return p.lyon }, func(p *pair) { p.options.UnixPartner = nil }},
		{"pipe without names", "pipe", false, func(p *pair) *carrier.Identity { return p.lyon }, func(p *pair) { p.options.UnixPartner = nil }},
	} {
		t.Run(tc.what, func(t *testing.T) {
			p := start(t, tc.scheme, tc.change)
			cc := dialPair(t, p, tc.id(p), tc.http2)
			for m, code := range callAll(t, cc) {
				if code != codes.Unavailable && code != codes.Unauthenticated {
					t.Errorf("%s: %v", m, code)
				}
			}
			if p.scheme != "tls" {
				_, err := p.line.Reach(within(t), "paris")
				wantKind(t, err, fault.Unauthenticated)
			}
			if p.fake.count() != 0 {
				t.Error("it was served")
			}
		})
	}
}

// TestUnknownUser: a session that says neither key nor user is nobody's, though
// users have names.
func TestUnknownUser(t *testing.T) {
	p := start(t, "unix", func(p *pair) { p.options.UnixPartner = func(int) (string, error) { return "lyon", nil } })
	_, err := p.server.partner(flow.Peer{UID: -1, Local: true, Name: "lyon"})
	wantKind(t, err, fault.Unauthenticated)
	if name, err := p.server.partner(flow.Peer{UID: 77, Local: true}); err != nil || name != "lyon" {
		t.Errorf("%q, %v", name, err)
	}
}

// TestSpeaksForItself: a partner does not call for another's requests.
func TestSpeaksForItself(t *testing.T) {
	on(t, func(t *testing.T, scheme string) {
		p := start(t, scheme)
		for _, m := range moves {
			a := ask(m)
			a.Key.Requester = "nice"
			_, err := p.line.Call(within(t), "paris", a, nil)
			if f := wantKind(t, err, fault.Unauthenticated); f.Side != fault.Peer || !strings.Contains(f.Error(), "nice") {
				t.Errorf("%v: %v", m, err)
			}
		}
		if p.fake.count() != 0 {
			t.Error("it was served")
		}
	})
}

// TestHTTP2: a partner behind a proxy has its key, and its calls are served.
func TestHTTP2(t *testing.T) {
	p := start(t, "tls")
	_, m, _ := writeAsk(new(request()))
	if _, err := peerpb.NewPeerClient(dialPair(t, p, p.lyon, true)).Request(within(t), m.(*peerpb.RequestAsk)); err != nil {
		t.Fatal(err)
	}
	if _, from := p.fake.last(t); from != "lyon" {
		t.Errorf("%q called", from)
	}
}

// TestEffectsOfCalls: Transfer and Request have one at most, other calls none.
func TestEffectsOfCalls(t *testing.T) {
	p := start(t, "pipe")
	cc := dialPair(t, p, nil, false)
	d := func() *sideeffect.Descriptor {
		return &sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Local: sideeffect.Memory(make([]byte, 9)), Quota: sideeffect.NoQuota}
	}
	for _, m := range moves {
		a := ask(m)
		method, msg, _ := writeAsk(&a)
		effects := []*sideeffect.Descriptor{d()}
		if m == lifecycle.Transfer || m == lifecycle.Prepare {
			effects = append(effects, d())
		}
		wantKind(t, cc.Invoke(within(t), method, msg, new(peerpb.Answer), rpc.With(effects...)), fault.Invalid)
	}
	if p.fake.count() != 0 {
		t.Error("it was served")
	}
}

// TestBadMessages: what is no message is refused by gRPC, and does no harm.
func TestBadMessages(t *testing.T) {
	p := start(t, "tls")
	cc := dialPair(t, p, p.lyon, false)
	for what, tc := range map[string]struct {
		message []byte
		code    codes.Code
	}{
		"garbage":                {garbage, codes.Internal},
		"text that is not UTF-8": {[]byte{0x12, 1, 0xff}, codes.Internal},
		"a message too long":     {slices.Concat([]byte{0x12, 0x80, 0x80, 0x08}, make([]byte, 128<<10)), codes.ResourceExhausted},
		"nothing":                {nil, codes.InvalidArgument},
	} {
		var reply []byte
		err := cc.GRPC().Invoke(within(t), peerpb.Peer_Request_FullMethodName, &tc.message, &reply, grpc.ForceCodec(raw{}))
		if c := status.Code(err); c != tc.code {
			t.Errorf("%s: %v", what, err)
		}
	}
	if p.fake.count() != 0 {
		t.Error("it was served")
	}
}

// TestManyCalls: one session carries as many calls as an engine serves.
func TestManyCalls(t *testing.T) {
	p := start(t, "tls")
	const calls = 2000
	open, n, entered := make(chan struct{}), atomic.Int32{}, make(chan struct{})
	p.fake.serve = func(ctx context.Context, _ engine.Ask, e engine.Effect) (engine.Answer, error) {
		if n.Add(1) == calls {
			close(entered)
		}
		select {
		case <-open:
		case <-ctx.Done():
		}
		return engine.Answer{Outcome: engine.Served, Phase: lifecycle.Ready, Size: -1}, nil
	}
	errs := make(chan error, calls)
	for range calls {
		go func() {
			_, err := p.line.Call(within(t), "paris", ask(lifecycle.Transfer), &sideeffect.Descriptor{Direction: sideeffect.ClientToServer,
				Local: sideeffect.Memory(make([]byte, 20<<10)), Quota: sideeffect.NoQuota})
			errs <- err
		}()
	}
	<-entered
	close(open)
	for range calls {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}
