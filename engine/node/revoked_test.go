package node_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// TestKeyTakenOut: a reload without a partner's key ends what moves on its session; the request waits
// at both ends, as after a lost connection, and goes on when the key is known again.
func TestKeyTakenOut(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	ca, cb := a.config(""), b.config("")
	ca.Node.Listen, cb.Node.Listen = []string{"tls://127.0.0.1:0"}, []string{"tls://127.0.0.1:0"}
	b.start(cb)
	ca.Book.Partners = map[string]*engine.Partner{"b": {Name: "b", Address: b.node.Addresses()[0], Keys: []string{b.node.Key()}}}
	a.start(ca)
	know := func(keys ...string) {
		t.Helper()
		known := *cb
		known.Book.Partners = map[string]*engine.Partner{"a": {Name: "a", Keys: keys}}
		if _, err := b.node.Reload(&known); err != nil {
			t.Fatal(err)
		}
	}
	other := "sha256:" + strings.Repeat("0", 64)
	know(other, a.node.Key())
	content := strings.Repeat("0123456789abcdef", 3<<16)
	a.write("x", content)
	ref := a.ordered(engine.Order{Partner: "b", Rule: "push", Source: must(relpath.Parse("x")), Target: must(relpath.Parse("x2")), Bandwidth: 1 << 20})
	there := store.Ref{Key: ref.Key, Role: lifecycle.Requested}
	await := func(h *host, ref store.Ref, what string, is func(engine.Status) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			s, err := h.node.Engine().Get(context.Background(), ref)
			if err == nil && is(s) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("at %s not %s: %v %v %+v", h.name, what, err, s.State, s.Failure)
			}
		}
	}
	await(b, there, "moving", func(s engine.Status) bool { return s.Live != nil && s.Live.Received > 0 })
	know(a.node.Key()) // which the session is of
	if s, err := b.node.Engine().Get(context.Background(), there); err != nil || s.State != lifecycle.Running || s.Attempt != 1 {
		t.Errorf("the partner's other key has gone: %v %v", s.State, err)
	}
	know(other)
	await(b, there, "waiting", func(s engine.Status) bool { return s.State == lifecycle.Interrupted && s.Phase == lifecycle.Moving })
	await(a, ref, "waiting", func(s engine.Status) bool { return s.State == lifecycle.Interrupted && s.Failure.Kind == fault.Lost })
	know(a.node.Key())
	a.done(ref)
	if b.read("x2") != content {
		t.Error("the files differ")
	}
}
