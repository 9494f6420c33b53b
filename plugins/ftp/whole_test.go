package ftp

import (
	"bufio"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// A server that names a file once it has all of it is sent it under its name; its reply says
// how many bytes it has; and what is given up leaves the older file alone.
func TestWriteWhole(t *testing.T) {
	lie := 0
	f := newFake(t, func(c *fakeConn, w, arg string) string {
		if w != "STOR" {
			return ""
		}
		c.takes(arg)
		b, _ := c.f.file(arg)
		return fmt.Sprintf("226 The file is taken: %d bytes, compared by sha256.", len(b)-lie)
	})
	f.mu.Lock()
	f.feat = " ATOMIC\r\n SIZE\r\n EPSV\r\n"
	f.mu.Unlock()
	s := f.mustOpen()
	if can := s.Capabilities(); can.Resume || !can.Atomic {
		t.Errorf("%+v", can)
	}
	write := func() plugins.Staged {
		t.Helper()
		st, err := s.Write(t.Context(), "/f", plugins.WriteRequest{Size: 5})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write([]byte("12345")); err != nil {
			t.Fatal(err)
		}
		return st
	}
	soon(t, func() {
		a, err := write().Commit(t.Context())
		if err != nil || a.Size != 5 || a.Verified != "size" {
			t.Errorf("%+v, %v", a, err)
		}
		lie = 1
		_, err = write().Commit(t.Context())
		isKind(t, err, fault.Corrupt, "taken 4")
		if kept, err := write().Abort(t.Context(), true); kept != nil || err != nil {
			t.Errorf("%q, %v", kept, err)
		}
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.ContainsFunc(f.heard, func(l string) bool {
		return strings.Contains(l, ".part") || strings.HasPrefix(l, "DELE") || strings.HasPrefix(l, "RN")
	}) {
		t.Errorf("it was told %q", f.heard)
	}
}

func TestCountOf(t *testing.T) {
	for text, want := range map[string]int64{"The file is taken: 17 bytes, compared by sha256.": 17, "0 bytes": 0, "got it": -1, "many bytes": -1, "-3 bytes": -1} {
		n, ok := countOf(text)
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("%q: %d, %v", text, n, ok)
		}
	}
}

// TestVerdictTakesItsTime: a server that is there, and says so when it is asked, has all the time that the
// verdict of what lies behind it takes; also when it has that in the moment in which it is asked. One that says
// nothing is given up.
func TestVerdictTakesItsTime(t *testing.T) {
	for name, c := range map[string]struct {
		noops   int  // that are answered
		crossed bool // one is answered after the verdict
		silent  bool
		bad     bool // the verdict
	}{
		"at once":    {},
		"late":       {noops: 4},
		"late no":    {noops: 3, bad: true},
		"crossed":    {noops: 1, crossed: true},
		"crossed no": {noops: 1, crossed: true, bad: true},
		"silent":     {noops: 1, silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unheard := make(chan int, 1) // how many NOOPs were not answered
			f := newFake(t, func(fc *fakeConn, w, arg string) string {
				if w != "STOR" {
					return ""
				}
				fc.takes(arg)
				r := bufio.NewReader(fc.c)
				asked := func() {
					if line, err := r.ReadString('\n'); err != nil || line != "NOOP\r\n" {
						t.Errorf("while it waits it says %q, %v", line, err)
					}
				}
				for range c.noops {
					asked()
					fc.say("200 I am here")
				}
				final := "226 The file is taken: 5 bytes."
				if c.bad {
					final = "552 It is too large for what lies behind"
				}
				switch {
				case c.silent:
					for n := 0; ; n++ {
						if _, err := r.ReadString('\n'); err != nil {
							unheard <- n
							return hangUp
						}
					}
				case c.crossed:
					asked()
					return final + "\r\n200 I am here"
				}
				return final
			})
			f.mu.Lock()
			f.feat = " ATOMIC\r\n SIZE\r\n EPSV\r\n"
			f.mu.Unlock()
			s := f.mustOpen()
			if !s.Capabilities().Verdict {
				t.Error("the node does not know it")
			}
			st, err := s.Write(t.Context(), "/f", plugins.WriteRequest{Size: 5})
			if err == nil {
				_, err = st.Write([]byte("12345"))
			}
			if err != nil {
				t.Fatal(err)
			}
			s.timeout = 100 * time.Millisecond
			_, err = st.Commit(t.Context())
			switch {
			case c.silent:
				isKind(t, err, fault.DeadPeer, "STOR")
				if n := <-unheard; n != 2 {
					t.Errorf("it was asked %d times more", n)
				}
			case c.bad:
				isKind(t, err, fault.NoSpace, "552", "what lies behind")
			case err != nil:
				t.Error(err)
			}
			s.mu.Lock()
			if len(s.idle) > 0 && (c.silent || c.crossed) {
				t.Error("somebody may take a late reply for another's")
			}
			s.mu.Unlock()
			s.timeout = time.Minute
			if err := s.with(t.Context(), func(c *conn) error {
				_, err := c.must(t.Context(), "TYPE", "I")
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
}
