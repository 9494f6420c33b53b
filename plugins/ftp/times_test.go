package ftp

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/plugins"
)

// writeAt is write of a file that is to have that time.
func writeAt(t *testing.T, s *session, name string, b []byte, when time.Time) plugins.Attr {
	t.Helper()
	st, err := s.Write(t.Context(), name, plugins.WriteRequest{Size: int64(len(b)), Modified: when})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write(b); err != nil {
		t.Fatal(err)
	}
	a, err := st.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// time is what a file was given by MFMT.
func (f *fake) time(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.times[name]
}

// TestTimes: what is written, and what is copied, is told the time of its source before it has its
// name; that a server does not take it is no failure.
func TestTimes(t *testing.T) {
	when := time.Date(2011, 12, 13, 23, 15, 16, 999, time.FixedZone("east", 3600))
	const said = "20111213221516"
	withMFMT := func(say func(*fakeConn, string, string) string) *fake {
		f := newFake(t, say)
		f.mu.Lock()
		f.feat += " MFMT\r\n"
		f.mu.Unlock()
		return f
	}
	f := withMFMT(nil)
	s := f.mustOpen()
	if a := writeAt(t, s, "/f", []byte("12345"), when); !s.Capabilities().Times || !a.Modified.Equal(when.Truncate(time.Second)) {
		t.Errorf("%+v, %+v", s.Capabilities(), a)
	}
	if got := f.time("/f"); got != said {
		t.Errorf("the file has the time %q", got)
	}
	writeAt(t, s, "/none", []byte("12345"), time.Time{})
	if got := f.time("/none"); got != "" {
		t.Errorf("a file without a time has %q", got)
	}

	// Not to be told, refused, not known.
	no := withMFMT(on("MFMT", "550 MFMT: Operation not permitted"))
	for name, s := range map[string]*session{"off": f.mustOpen("times", "off"), "refused": no.mustOpen(), "not known": newFake(t, nil).mustOpen()} {
		if a := writeAt(t, s, "/other", []byte("12345"), when); a.Size != 5 || a.Modified.Equal(when.Truncate(time.Second)) {
			t.Errorf("%s: %+v", name, a)
		}
		if s.Capabilities().Times != (name == "refused") {
			t.Errorf("%s: %+v", name, s.Capabilities())
		}
	}
	if got := f.time("/other"); got != "" {
		t.Errorf("with times=off it is told %q", got)
	}

	// Copies: by size, by checksum, and of a file that can be gone on with.
	for _, c := range []struct {
		name string
		say  func(*fakeConn, string, string) string
		size int
	}{{"size", nil, 1000}, {"large", nil, resumable + 1}, {"sha256", hashes("one"), 1000}} {
		say := c.say
		if say != nil {
			say = func(f *fakeConn, w, arg string) string {
				if w == "FEAT" { // with MFMT, too
					return ""
				}
				return c.say(f, w, arg)
			}
		}
		a, b := newFake(t, c.say), withMFMT(say)
		if say != nil {
			b.mu.Lock()
			b.feat += " XSHA256\r\n"
			b.mu.Unlock()
		}
		a.put("/f", randomBytes(c.size))
		res, err := a.mustOpen("fxp", "any").Copy(t.Context(), "/f", b.mustOpen("fxp", "any"), "/g", plugins.CopyRequest{})
		if err != nil || c.size == 1000 && res.Verified != c.name {
			t.Fatalf("%s: %+v, %v", c.name, res, err)
		}
		b.mu.Lock()
		if got := b.times["/g"]; got != "20260102030405" { // what the fake says to MDTM
			t.Errorf("%s: the copy has the time %q; %q", c.name, got, b.heard)
		}
		if last := b.heard[len(b.heard)-1]; last != "RNTO /g" {
			t.Errorf("%s: it hears %q after it had the name", c.name, last)
		}
		b.mu.Unlock()
	}
}

// TestRealTimes: each of the servers keeps them.
func TestRealTimes(t *testing.T) {
	when := time.Date(2011, 12, 13, 14, 15, 16, 0, time.UTC)
	all := farm(t, ftpserver.FXP)
	of := func(f *ftpserver.Server, name string) time.Time {
		fi, err := os.Stat(filepath.Join(f.Data, name))
		if err != nil {
			t.Fatal(err)
		}
		return fi.ModTime()
	}
	for kind, f := range all {
		s := opens(t, f, "fxp", "any")
		if a := writeAt(t, s, "/w", []byte("12345"), when); !a.Modified.Equal(when) || !of(f, "w").Equal(when) {
			t.Errorf("%s: %+v, and it has %v", kind, a, of(f, "w").UTC())
		}
		if a, err := s.Stat(t.Context(), "/w"); err != nil || !a.Modified.Equal(when) {
			t.Errorf("%s: %+v, %v", kind, a, err)
		}
		writeAt(t, opens(t, f, "times", "off"), "/now", []byte("12345"), when)
		if time.Since(of(f, "now")).Abs() > time.Hour {
			t.Errorf("%s: with times=off it has %v", kind, of(f, "now").UTC())
		}
	}
	kinds := slices.Clone(ftpserver.Kinds)
	for i, a := range kinds { // each is a source and a destination once
		b := all[kinds[(i+1)%len(kinds)]]
		if _, err := opens(t, all[a], "fxp", "any").Copy(t.Context(), "/w", opens(t, b, "fxp", "any"), "/copy", plugins.CopyRequest{}); err != nil || !of(b, "copy").Equal(when) {
			t.Errorf("%s to %s: %v, and it has %v", a, b.Kind, err, of(b, "copy").UTC())
		}
	}
}
