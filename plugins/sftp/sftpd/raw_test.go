package sftpd

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
)

// raw is a client of hand-made messages, without SSH.
type raw struct {
	t       testing.TB
	conn    net.Conn
	g       *guest
	replies chan []byte // without lengths; closed at the end
	last    uint32
	done    chan error // of speak
}

// guestOf is a guest of a node, let in, at one end of a pipe.
func guestOf(t testing.TB, n *node, conn net.Conn) *guest {
	t.Helper()
	cfg, err := configure(map[string]string{"hostkey": "none"})
	if err != nil {
		t.Fatal(err)
	}
	v := &server{cfg: cfg, node: n, ctx: context.Background(), places: cfg.places()}
	s, err := n.Open(t.Context(), plugins.Endpoint{User: user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return &guest{v: v, line: newLine(conn, 0), session: s, can: s.Capabilities(), hard: context.Background(), early: &budget{left: maxEarly}}
}

// newRaw says hello.
func newRaw(t testing.TB, n *node) *raw {
	t.Helper()
	r := connected(t, n)
	r.send(append([]byte{fxInit}, 0, 0, 0, 3))
	if b := r.next(); b[0] != fxVersion || binary.BigEndian.Uint32(b[1:]) != 3 {
		t.Fatalf("version: %x", b)
	}
	return r
}

func connected(t testing.TB, n *node) *raw {
	t.Helper()
	ours, theirs := net.Pipe()
	r := &raw{t: t, conn: ours, g: guestOf(t, n, theirs), replies: make(chan []byte, 1000), done: make(chan error, 1)}
	go func() {
		err := r.g.speak(theirs)
		_ = r.g.session.Close()
		_ = theirs.Close()
		r.done <- err
	}()
	go func() {
		defer close(r.replies)
		for {
			var n [4]byte
			if _, err := io.ReadFull(ours, n[:]); err != nil {
				return
			}
			b := make([]byte, binary.BigEndian.Uint32(n[:]))
			if _, err := io.ReadFull(ours, b); err != nil {
				return
			}
			r.replies <- b
		}
	}()
	t.Cleanup(func() {
		_ = ours.Close()
		select {
		case <-r.done:
		case <-time.After(20 * time.Second):
			t.Error("the server goes on without a client")
		}
	})
	return r
}

// gone ends the connection, and waits for the server's end.
func (r *raw) gone() error {
	r.t.Helper()
	_ = r.conn.Close()
	select {
	case err := <-r.done:
		r.done <- nil
		return err
	case <-time.After(20 * time.Second):
		r.t.Fatal("the server goes on without a client")
		return nil
	}
}

// send sends a message, whatever it is.
func (r *raw) send(b []byte) {
	r.t.Helper()
	if _, err := r.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) next() []byte {
	r.t.Helper()
	select {
	case b, ok := <-r.replies:
		if !ok {
			r.t.Fatal("the server has ended the connection")
		}
		return b
	case <-time.After(20 * time.Second):
		r.t.Fatal("there is no reply")
		return nil
	}
}

// ask sends a request, and returns its number.
func (r *raw) ask(typ byte, parts ...any) uint32 {
	r.t.Helper()
	r.last++
	m := newMessage(typ, r.last, 64)
	for _, p := range parts {
		switch v := p.(type) {
		case string:
			m = m.text(v)
		case []byte:
			m = m.text(string(v))
		case int:
			m = m.number(uint32(v))
		case uint64:
			m = m.long(v)
		case message:
			m = append(m, v...)
		}
	}
	r.send(m[4:])
	return r.last
}

// do sends a request and waits for its reply: type, and what is behind the number.
func (r *raw) do(typ byte, parts ...any) (byte, fields) {
	r.t.Helper()
	id := r.ask(typ, parts...)
	b := r.next()
	if got := binary.BigEndian.Uint32(b[1:]); got != id {
		r.t.Fatalf("a reply to %d, and not to %d", got, id)
	}
	return b[0], fields{b: b[5:]}
}

// status is the code of a reply and its text; -1 is none.
func (r *raw) status(typ byte, parts ...any) (int, string) {
	r.t.Helper()
	got, f := r.do(typ, parts...)
	if got != fxStatus {
		return -1, ""
	}
	return int(f.number()), f.text()
}

func (r *raw) want(code int, typ byte, parts ...any) string {
	r.t.Helper()
	got, text := r.status(typ, parts...)
	if got != code {
		r.t.Fatalf("request %d gets %d %q, and should get %d", typ, got, text, code)
	}
	return text
}

// open opens something, and returns its handle.
func (r *raw) open(name string, flags int) string {
	r.t.Helper()
	return r.handle(fxOpen, name, flags, 0)
}

func (r *raw) handle(typ byte, parts ...any) string {
	r.t.Helper()
	got, f := r.do(typ, parts...)
	if got != fxHandle {
		code := f.number()
		r.t.Fatalf("there is no handle, but %d: %d %q", got, code, f.text())
	}
	return f.text()
}

const anew = forWriting | create | truncate

func (r *raw) write(h string, at int, b []byte) (int, string) {
	r.t.Helper()
	return r.status(fxWrite, h, uint64(at), b)
}
