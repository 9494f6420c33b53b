package rpc

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/credentials"
	"pgregory.net/rapid"

	"github.com/pannier/pannier/spec/fault"
)

// h2talk is a client's preface and then its frames: one call each, n of them taken back.
func h2talk(t testing.TB, calls, resets int) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	err := f.WriteSettings()
	for i := range calls {
		id := uint32(2*i + 1)
		err = errors.Join(err, f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: make([]byte, i%30), EndHeaders: true}))
		if i < resets {
			err = errors.Join(err, f.WriteRSTStream(id, http2.ErrCodeCancel))
		}
		err = errors.Join(err, f.WriteData(id, true, bytes.Repeat([]byte{0, 0, 0, h2Reset}, i%40)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The resets are found whatever pieces the frames come in.
func TestResetsAreCounted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		calls := rapid.IntRange(0, 50).Draw(rt, "calls")
		want := rapid.IntRange(0, calls).Draw(rt, "resets")
		q, got := watched(newGuard(maxPending)), 0
		inPieces(rt, h2talk(t, calls, want), func(p []byte) { got += q.in(p).resets })
		if got != want {
			rt.Fatalf("%d resets counted, want %d", got, want)
		}
	})
}

// watched is what a new connection of nobody holds.
func watched(g *guard) *pending { return &g.watch(nil, nil).(*guardedConn).pending }

// inPieces gives p to take in pieces of any size.
func inPieces(rt *rapid.T, p []byte, take func([]byte)) {
	for len(p) > 0 {
		n := rapid.IntRange(0, min(len(p), 40)).Draw(rt, "piece")
		take(p[:n:n])
		p = p[n:]
	}
}

// keyed is who a connection's peer proves to be.
func keyed(key string) credentials.AuthInfo {
	return credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{{RawSubjectPublicKeyInfo: []byte(key)}}}}
}

// A known peer has one allowance for all its connections, which grows with time
// and is forgotten when it is full and not in use. Who has proved nothing has one a connection.
func TestAllowances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(maxPending)
		nobody := credentials.TLSInfo{}
		after := func(info credentials.AuthInfo, resets int) error {
			near, far := net.Pipe()
			defer far.Close()
			c := g.watch(near, info)
			defer c.Close()
			go func() { _, _ = far.Write(h2talk(t, resets, resets)) }()
			buf := make([]byte, 1<<20)
			for seen := 0; ; {
				n, err := c.Read(buf)
				if seen += n; err != nil || seen == len(h2talk(t, resets, resets)) {
					return err
				}
			}
		}
		for _, c := range []struct {
			who    string
			info   credentials.AuthInfo
			resets int
			want   error
		}{
			{"a", keyed("a"), resetsBurst - 1, nil},
			{"a again", keyed("a"), 2, fault.Overloaded},
			{"b", keyed("b"), resetsBurst, nil},
			{"b again", keyed("b"), 0, nil}, // no call is taken back
			{"nobody", nobody, resetsBurst, nil},
			{"nobody's next connection", nobody, resetsBurst, nil},
			{"nobody's third", nobody, resetsBurst + 1, fault.Overloaded},
		} {
			if err := after(c.info, c.resets); !errors.Is(err, c.want) || err != nil && c.want == nil {
				t.Errorf("%s, %d resets: %v, want %v", c.who, c.resets, err, c.want)
			}
		}
		time.Sleep(time.Second)
		if err := errors.Join(after(keyed("a"), resetsPerSecond), after(keyed("b"), resetsPerSecond)); err != nil {
			t.Errorf("a second later: %v", err)
		}
		if len(g.by) != 2 {
			t.Errorf("%d allowances of two peers", len(g.by))
		}
		time.Sleep(time.Minute)
		if err := after(keyed("c"), 0); err != nil || len(g.by) != 1 {
			t.Errorf("a minute later: %v, %d allowances", err, len(g.by))
		}
	})
}
