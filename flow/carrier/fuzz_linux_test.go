package carrier

import (
	"bytes"
	"os"
	"testing"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// brings is a connection that brings b and ends.
func brings(t *testing.T, b []byte) *fileConn {
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := in.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	c := &fileConn{in: in, out: out, raw: raw, met: true}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		_, _ = w.Write(b)
		_ = w.Close()
	}()
	return c
}

// FuzzGreeting: in whatever a pipe brings, exactly the whole greetings are found, in order, and each byte is
// counted as noise, or belongs to one, or is left.
func FuzzGreeting(f *testing.F) {
	call := greeting{kind: greetCall, from: [16]byte{1}}.append(nil)
	f.Add(call)
	f.Add(append([]byte("login: "), append(call, "rest"...)...))
	f.Add(append(call[:20:20], call...))
	f.Add(append(greetMagic[:4:4], greeting{kind: greetGo, to: [16]byte{7}, from: [16]byte{8}}.append(nil)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 60<<10 {
			t.Skip()
		}
		g := greeter{c: brings(t, b)}
		found, at := 0, 0
		for {
			m, err := g.next()
			if err != nil {
				break
			}
			found += greetingSize
			w := m.append(nil)
			i := bytes.Index(b[at:], w)
			if i < 0 {
				t.Fatalf("a greeting that did not come: %x", w)
			}
			at += i + greetingSize
		}
		if g.noise+found+len(g.buf) != len(b) {
			t.Errorf("%d bytes of noise, %d of greetings, %d left of %d", g.noise, found, len(g.buf), len(b))
		}
		for i := at; i+greetingSize <= len(b); i++ {
			if _, ok := readGreeting(b[i:][:greetingSize]); ok {
				t.Errorf("a greeting at %d was not found", i)
			}
		}
	})
}

// FuzzPrologue: what a command says before the handshake reaches nobody; what comes from there on does, all of it.
func FuzzPrologue(f *testing.F) {
	hello := "\x16\x03\x03\x00\x10\x02more"
	f.Add([]byte("welcome\n"+hello), true)
	f.Add([]byte("welcome\n"+string(wire.Preface[:])+"x"), false)
	f.Add([]byte("\x15\x03\x03\x00\x02\x02\x28"), true)
	f.Add([]byte("nothing"), true)
	f.Fuzz(func(t *testing.T, b []byte, tls bool) {
		if len(b) > 60<<10 {
			t.Skip()
		}
		c := &prologue{fileConn: brings(t, b), begins: beginsLane}
		if tls {
			c.begins = beginsTLS
		}
		at := c.begins(b)
		var got []byte
		var err error
		for p := make([]byte, 100); err == nil; {
			var n int
			n, err = c.Read(p)
			got = append(got, p[:n]...)
		}
		switch {
		case at >= 0 && !bytes.Equal(got, b[at:]):
			t.Errorf("%q was read of %q", got, b)
		case at < 0 && (len(got) > 0 || fault.KindOf(err) == fault.Internal && len(b) > 0):
			t.Errorf("%q was read of %q, which begins nothing: %v", got, b, err)
		}
	})
}
