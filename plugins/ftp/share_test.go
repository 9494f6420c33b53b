package ftp

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// relay takes a file from one session to another, as the node does: the writing begins first.
func relay(ctx context.Context, from *session, name string, to *session, target string) error {
	st, err := to.Write(ctx, target, plugins.WriteRequest{Size: -1})
	if err != nil {
		return err
	}
	r, err := from.Read(ctx, name, 0)
	if err == nil {
		_, err = io.Copy(st, r)
	}
	if err == nil {
		err = r.Close()
	}
	if err == nil {
		_, err = from.Stat(ctx, name)
	}
	if err == nil {
		_, err = st.Commit(ctx)
	}
	if err != nil {
		_, _ = st.Abort(ctx, false)
	}
	return err
}

// TestRelays: files that come from a session and go to one, the same or others, do not wait for one
// another's connections, and neither does a direct copy beside them.
func TestRelays(t *testing.T) {
	for _, limit := range []string{"2", "4"} {
		a, b := newFake(t, nil), newFake(t, nil)
		s, d := a.mustOpen("connections", limit, "fxp", "any"), b.mustOpen("connections", limit, "fxp", "any")
		content := randomBytes(256 << 10)
		a.put("/f", content)
		b.put("/f", content)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		g, ctx := errgroup.WithContext(ctx)
		for i := range 6 {
			g.Go(func() error { return relay(ctx, s, "/f", s, fmt.Sprint("/same", i)) })
			g.Go(func() error { return relay(ctx, s, "/f", d, fmt.Sprint("/there", i)) })
			g.Go(func() error { return relay(ctx, d, "/f", s, fmt.Sprint("/back", i)) })
			g.Go(func() error {
				_, err := s.Copy(ctx, "/f", s, fmt.Sprint("/direct", i), plugins.CopyRequest{})
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Errorf("%s connections: %v", limit, err)
		}
		cancel()
		for i := range 6 {
			for name, f := range map[string]*fake{"/same": a, "/there": b, "/back": a, "/direct": a} {
				if got, _ := f.file(fmt.Sprint(name, i)); string(got) != string(content) {
					t.Errorf("%s connections: %s%d has %d bytes", limit, name, i, len(got))
				}
			}
		}
	}
}

// TestOneConnection: where there is only one, who would wait for ever is told so, whether it is the
// option or the server that allows no more.
func TestOneConnection(t *testing.T) {
	for _, allowed := range []string{"1", "5"} {
		f := newFake(t, nil)
		f.mu.Lock()
		f.most = 1
		f.mu.Unlock()
		f.put("/f", randomBytes(100))
		s := f.mustOpen("connections", allowed, "fxp", "any")
		soon(t, func() {
			_, err := s.Copy(t.Context(), "/f", s, "/g", plugins.CopyRequest{})
			isKind(t, err, fault.Unsupported, "two connections")
			st, err := s.Write(t.Context(), "/g", plugins.WriteRequest{Size: -1})
			if err != nil {
				t.Error(err)
				return
			}
			s.mu.Lock()
			for c := range s.all { // so long as a rule's bandwidth, or a disk, may have it wait
				c.fed.Store(time.Now().Add(-s.timeout - time.Second).UnixNano())
			}
			s.mu.Unlock()
			if n := s.stuck(); n != 0 {
				t.Errorf("a writer that is fed slowly is one that waits for others: %d", n)
			}
			s.mu.Lock()
			for c := range s.all {
				c.fed.Store(1) // long ago
			}
			s.mu.Unlock()
			_, err = s.Read(t.Context(), "/f", 0)
			isKind(t, err, fault.Overloaded, "files are being written")
			_, _ = st.Abort(t.Context(), false)
			for { // until the server has noticed that the writer's connection is gone
				b, err := reads(t.Context(), s, "/f", 0)
				if fault.KindOf(err) == fault.Overloaded {
					time.Sleep(time.Millisecond)
					continue
				}
				if err != nil || len(b) != 100 {
					t.Errorf("afterwards: %d bytes, %v", len(b), err)
				}
				return
			}
		})
	}
}

// TestRenameConfirmedAlone: the connection whose reply is missing is not in the way of the one that
// asks, where there can only be one.
func TestRenameConfirmedAlone(t *testing.T) {
	f := newFake(t, func(c *fakeConn, w, arg string) string {
		if w == "RNTO" {
			c.f.honest(c, w, arg)
			return hangUp
		}
		return ""
	})
	s := f.mustOpen("connections", "1")
	soon(t, func() {
		if _, err := write(t.Context(), s, "/f", []byte("12345")); err != nil {
			t.Error(err)
		}
	})
}

// TestLimitRises: a server that had let in no more may do so later.
func TestLimitRises(t *testing.T) {
	f := newFake(t, nil)
	f.mu.Lock()
	f.most = 1
	f.mu.Unlock()
	s := f.mustOpen("connections", "3")
	held, err := s.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c, err := s.spare(t.Context()); c != nil || fault.KindOf(err) != fault.Overloaded {
		t.Fatalf("%v, %v", c, err)
	}
	f.mu.Lock()
	f.most = 0
	f.mu.Unlock()
	if c, err := s.spare(t.Context()); c != nil || err != nil {
		t.Errorf("it is asked again at once: %v", err)
	}
	s.mu.Lock()
	s.fell = s.fell.Add(-2 * leastPause)
	s.mu.Unlock()
	c, err := s.spare(t.Context())
	if c == nil || err != nil {
		t.Fatalf("it is not asked again: %v", err)
	}
	s.mu.Lock()
	if s.pause != 2*leastPause {
		t.Errorf("one of two more is let in, and the pause is %v", s.pause)
	}
	s.fell = s.fell.Add(-3 * leastPause)
	s.mu.Unlock()
	last, err := s.spare(t.Context())
	if last == nil || err != nil {
		t.Fatalf("it is not asked for the last: %v", err)
	}
	if s.pause != 0 {
		t.Errorf("all are let in again, and the pause is %v", s.pause)
	}
	s.give(last)
	s.give(c)
	s.give(held)
}

// TestQuotedName: a name that cannot be said in the command for a checksum is compared by size, and
// the file is written.
func TestQuotedName(t *testing.T) {
	f := newFake(t, func(_ *fakeConn, w, arg string) string {
		switch w {
		case "FEAT":
			return "211-x\r\n XSHA256\r\n MLST size*;\r\n REST STREAM\r\n211 End"
		case "XSHA256":
			return "550 No such file: " + arg
		}
		return ""
	})
	for name, want := range map[string]string{`/a "b" c`: "size"} {
		a, err := write(t.Context(), f.mustOpen(), name, []byte("12345"))
		if err != nil || a.Verified != want {
			t.Errorf("%s: compared %q, %v", name, a.Verified, err)
		}
	}
}
