package ftp

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// copies copies a small file as often as is said, between sessions that were open before.
func copies(t *testing.T, a, b *fake, times int) {
	t.Helper()
	content := randomBytes(10_000)
	a.put("/f", content)
	s, d := a.mustOpen("fxp", "any", "timeout", "1s"), b.mustOpen("fxp", "any", "timeout", "1s")
	for range times {
		b.mu.Lock()
		delete(b.files, "/g")
		b.mu.Unlock()
		if res, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{}); err != nil || res.Bytes != 10_000 || res.Verified != "size" {
			t.Fatalf("%+v, %v", res, err)
		}
		if got, _ := b.file("/g"); string(got) != string(content) {
			t.Fatalf("%d other bytes", len(got))
		}
	}
}

// together counts the commands that came together with the one before.
func together(n *int, also func(c *fakeConn, w, arg string) string) func(c *fakeConn, w, arg string) string {
	return func(c *fakeConn, w, arg string) string {
		if c.more {
			*n++
		}
		if also != nil {
			return also(c, w, arg)
		}
		return ""
	}
}

// A server that answers what comes together is sent commands together: in a copy, those of
// the transfer at the source and those of the end at the destination.
func TestCopyTogether(t *testing.T) {
	var atA, atB int
	a, b := newFake(t, together(&atA, nil)), newFake(t, together(&atB, nil))
	soon(t, func() { copies(t, a, b, 2) })
	if atA != 3 || atB != 6 { // NOOP once, then RETR twice; NOOP, EPSV after CWD once, MDTM and RNFR twice
		t.Errorf("together came %d and %d commands, 3 and 6 are expected", atA, atB)
	}
}

// One that reads a single command of what comes together is found out, and sent one after
// the other.
func TestCopyOneAtATime(t *testing.T) {
	for _, who := range []string{"source", "destination", "both"} {
		t.Run(who, func(t *testing.T) {
			a, b := newFake(t, nil), newFake(t, nil)
			a.drops, b.drops = who != "destination", who != "source"
			soon(t, func() { copies(t, a, b, 3) })
		})
	}
}

// One that answers two NOOP, but not what matters, is found out then.
func TestCopyOddAnswer(t *testing.T) {
	var odd int
	a := newFake(t, func(c *fakeConn, w, _ string) string {
		if w == "RETR" && c.more {
			odd++
			return "503 Bad sequence of commands"
		}
		return ""
	})
	soon(t, func() { copies(t, a, newFake(t, nil), 3) })
	if odd != 1 {
		t.Errorf("it said so %d times", odd)
	}
}

// A source that has connected to the destination before is told all at once: its answer to
// the address is not waited for.
func TestCopyKnownAddress(t *testing.T) {
	stored := make(chan struct{}, 1)
	b := newFake(t, func(_ *fakeConn, w, _ string) string {
		if w == "STOR" {
			stored <- struct{}{}
		}
		return ""
	})
	known := false
	a := newFake(t, func(_ *fakeConn, w, _ string) string {
		switch {
		case w == "RETR" && !known:
			known = true
			<-stored
		case w == "EPRT" && known: // says nothing before the destination was told
			select {
			case <-stored:
			case <-t.Context().Done():
			}
		}
		return ""
	})
	soon(t, func() { copies(t, a, b, 3) })
}

// One that does not take the address any more is asked for it, and told one thing at a time.
func TestCopyAddressRefusedLater(t *testing.T) {
	var asked int
	a := newFake(t, func(_ *fakeConn, w, _ string) string {
		if w == "EPRT" {
			if asked++; asked == 2 {
				return "550 Not there"
			}
		}
		return ""
	})
	soon(t, func() { copies(t, a, newFake(t, nil), 3) })
	if asked != 4 {
		t.Errorf("EPRT came %d times", asked)
	}
}

// What does not say that a part is gone, does not make it so: it is kept, and gone on with
// when the server says how much of it there is.
func TestPartUnknown(t *testing.T) {
	content := randomBytes(2 << 20)
	broken := true
	b := newFake(t, func(_ *fakeConn, w, arg string) string {
		if broken && w == "SIZE" && strings.HasSuffix(arg, ".part") {
			return "451 Local error"
		}
		return ""
	})
	a := newFake(t, nil)
	a.put("/f", content)
	s, d := a.mustOpen("fxp", "any"), b.mustOpen("fxp", "any")
	f, err := s.Stat(t.Context(), "/f")
	if err != nil {
		t.Fatal(err)
	}
	tok := newToken("")
	tok.Size, tok.Modified = f.Size, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Unix() // as it says to MDTM
	b.put(tok.part("/g"), content[:1_000_000])
	soon(t, func() {
		res, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{Resume: tok.bytes()})
		isKind(t, err, fault.IO, "451")
		if res.Resume == nil {
			t.Error("the copy would begin anew")
		}
		_, err = d.Write(t.Context(), "/g", plugins.WriteRequest{Size: f.Size, Resume: tok.bytes()})
		isKind(t, err, fault.IO, "451")
		if part, _ := b.file(tok.part("/g")); len(part) != 1_000_000 {
			t.Errorf("the part has %d bytes", len(part))
		}
		broken = false
		var from int64 = -1
		res, err = s.Copy(context.WithoutCancel(t.Context()), "/f", d, "/g", plugins.CopyRequest{Resume: res.Resume, Progress: func(n int64, _ []byte) {
			if from < 0 {
				from = n
			}
		}})
		if got, _ := b.file("/g"); err != nil || from != 1_000_000 || string(got) != string(content) {
			t.Errorf("%+v, %v, from %d", res, err, from)
		}
	})
}
