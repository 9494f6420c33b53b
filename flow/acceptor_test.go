package flow

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// provenConn is a connection whose carrier knows the peer's key.
type provenConn struct {
	net.Conn
	key string
}

func (c provenConn) PeerKey() string { return c.key }
func (c provenConn) PeerUID() int    { return -1 }

// leave makes a session as the peer of that key and goes away at once, so that
// the acceptor waits for it to come back.
func leave(t *testing.T, a *Acceptor, l *flowtest.Link, key string) error {
	t.Helper()
	near, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	h := rawHello(1)
	if err := greet(near, wire.TypeHello, &h); err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a.Handle(provenConn{far, key})
	var ack wire.HelloAck
	if err := readHandshake(near, wire.TypeHelloAck, &ack); err != nil {
		t.Fatal(err)
	}
	if ack.Kind != 0 {
		return fault.FromPeer("handshake", fault.Kind(ack.Kind), ack.Text)
	}
	_, err = a.Accept(t.Context())
	return err
}

// TestSessionsOfAnAcceptor: neither one peer nor all together have more
// sessions than there is room for, one peer leaves room for others, and what is
// lost gives its room back.
func TestSessionsOfAnAcceptor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := NewAcceptor(Config{})
		if err != nil {
			t.Fatal(err)
		}
		l := flowtest.NewLink(flowtest.LinkConfig{})
		defer l.Close()
		defer a.Close()
		fill := func(key string, n int) {
			t.Helper()
			for i := range n {
				if err := leave(t, a, l, key); err != nil {
					t.Fatalf("session %d of %s: %v", i+1, key, err)
				}
			}
		}
		full := func(key string) {
			t.Helper()
			if err := leave(t, a, l, key); !errors.Is(err, fault.Overloaded) {
				t.Errorf("one more session of %s: %v", key, err)
			}
		}
		for p := range maxSessions / maxPeerSessions {
			key := fmt.Sprint("peer ", p)
			fill(key, maxPeerSessions)
			if p == 0 {
				full(key) // its share, while there is room for others
			}
		}
		full("newcomer")
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if len(a.byID) != 0 || len(a.shares) != 0 {
			t.Errorf("%d sessions and %d shares are left", len(a.byID), len(a.shares))
		}
		fill("peer 0", 1)
	})
}

// TestShareOf: who counts as one peer.
func TestShareOf(t *testing.T) {
	for _, tc := range []struct {
		name string
		p, q Peer
		same bool
	}{
		{"one key, two hosts", Peer{Key: "k", Address: "10.0.0.1:1", UID: -1}, Peer{Key: "k", Address: "10.0.0.2:1", UID: -1}, true},
		{"two keys, one address", Peer{Key: "k", Address: "10.0.0.1:1", UID: -1}, Peer{Key: "l", Address: "10.0.0.1:1", UID: -1}, false},
		{"two names, one host", Peer{Name: "a", Address: "[::1]:1", UID: -1}, Peer{Name: "b", Address: "[::1]:2", UID: -1}, true},
		{"two hosts", Peer{Address: "10.0.0.1:1", UID: -1}, Peer{Address: "10.0.0.2:1", UID: -1}, false},
		{"two users", Peer{Address: "@", UID: 1}, Peer{Address: "@", UID: 2}, false},
		{"one user", Peer{Address: "@", UID: 0}, Peer{Address: "", UID: 0}, true},
	} {
		if same := shareOf(tc.p) == shareOf(tc.q); same != tc.same {
			t.Errorf("%s: one share is %v, want %v", tc.name, same, tc.same)
		}
	}
}
