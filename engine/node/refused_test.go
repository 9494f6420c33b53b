package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// TestRefusedLogin: hundreds of requests behind a wrong password are one attempt at the server, and
// each is told why. Another password, and partner test, are tried at once; the same one after a
// pause that grows.
func TestRefusedLogin(t *testing.T) {
	g, b := newGate(t)
	s := b.all["one"]
	s.Credentials = filepath.Join(t.TempDir(), "credentials")
	password := func(p string) {
		if err := os.WriteFile(s.Credentials, []byte(`{"user": "me", "password": "`+p+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := fault.New("PASS", fault.Unauthenticated, "530 wrong password")
	answers := func(answer error) {
		go func() { <-g.came; g.let <- answer }()
	}
	login := func() error {
		_, over, err := b.Login(t.Context(), "one")
		if err == nil {
			over(nil)
		}
		return err
	}
	attempts := func(want int32) {
		t.Helper()
		if n := g.all.Load(); n != want {
			t.Fatalf("%d attempts were made, not %d", n, want)
		}
	}
	password("wrong")
	answers(refused)
	if err := login(); fault.KindOf(err) != fault.Unauthenticated || strings.Contains(err.Error(), "not asked again") {
		t.Error(err)
	}
	for range 300 {
		err := login()
		if fault.KindOf(err) != fault.Unauthenticated {
			t.Fatal(err)
		}
		for _, want := range []string{"530 wrong password", "not asked again until", "lock the account", "partner test one"} {
			if !strings.Contains(err.Error(), want) {
				t.Fatalf("%q is not said: %v", want, err)
			}
		}
	}
	attempts(1)

	s.refused.again = time.Now() // the pause is over
	answers(refused)
	if err := login(); err == nil || s.refused.pause != 2*refusedFirst {
		t.Error(err, s.refused.pause)
	}
	attempts(2)
	s.refused.pause = refusedMost
	s.refused.again = time.Now()
	answers(refused)
	if err := login(); err == nil || s.refused.pause != refusedMost {
		t.Error(err, s.refused.pause)
	}
	attempts(3)

	answers(refused)
	if _, err := b.Probe(t.Context(), "one", false); err == nil {
		t.Error("a probe that is refused succeeds")
	}
	attempts(4)
	password("another wrong one")
	answers(refused)
	if err := login(); err == nil || s.refused.pause != refusedFirst {
		t.Error(err, s.refused.pause)
	}
	_ = login()
	attempts(5)

	answers(nil) // the server has the user now
	if _, err := b.Probe(t.Context(), "one", false); err != nil {
		t.Error(err)
	}
	answers(nil)
	if err := login(); err != nil {
		t.Error(err)
	}
	attempts(7)
}

// TestOtherFailuresAreTriedAgain: only a refusal of the server's holds logins back, and not that a driver
// does not trust its key or certificate: once that is put right there, the next one is let in.
func TestOtherFailuresAreTriedAgain(t *testing.T) {
	g, b := newGate(t)
	untrusted := &fault.Error{Op: "host key", Kind: fault.Unauthenticated, Side: fault.Inferred, Err: errors.New("the server's key is another")}
	for i, answer := range []error{fault.New("connect", fault.DeadPeer, "nobody answers"), fault.New("PASS", fault.Overloaded, "530 too many users"), untrusted, untrusted} {
		go func() { <-g.came; g.let <- answer }()
		if _, _, err := b.Login(t.Context(), "one"); fault.KindOf(err) != fault.KindOf(answer) {
			t.Error(err)
		}
		if n := g.all.Load(); int(n) != i+1 {
			t.Fatalf("%d attempts, not %d", n, i+1)
		}
	}
}
