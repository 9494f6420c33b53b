package ftp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

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
