package flow

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// kindRPC is the byte stream kind that carries gRPC where a connection of its
// own is impossible. It never shows up in AcceptStream.
const kindRPC = "grpc"

// deadline bounds a handshake; the returned func lifts it. A cancelled ctx
// closes the connection.
func deadline(ctx context.Context, conn net.Conn, d time.Duration) func() {
	conn.SetDeadline(time.Now().Add(d))
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return func() {
		stop()
		conn.SetDeadline(time.Time{})
	}
}

// handshakeFrames is how many frames a handshake takes of each direction, and
// so the number of the first one on a lane.
const handshakeFrames = 1

// introduction is preface and the one frame of a handshake.
func introduction(t wire.Type, m wire.Message) ([]byte, error) {
	b, err := wire.AppendControl(append([]byte(nil), wire.Preface[:]...), t, 0, m)
	if err == nil {
		wire.Seal(b[len(wire.Preface):], 0)
	}
	return b, err
}

// hello runs the connector's half of a handshake on a fresh connection.
func hello(conn net.Conn, h *wire.Hello) (*wire.HelloAck, time.Duration, error) {
	b, err := introduction(wire.TypeHello, h)
	if err != nil {
		return nil, 0, err
	}
	began := time.Now()
	if _, err := conn.Write(b); err != nil {
		return nil, 0, fault.Wrap("handshake", "", lost(err))
	}
	var ack wire.HelloAck
	if err := readHandshake(conn, wire.TypeHelloAck, &ack); err != nil {
		return nil, 0, unanswered(conn, err)
	}
	if ack.Kind != 0 {
		e := fault.FromPeer("handshake", fault.Kind(ack.Kind), ack.Text)
		e.Session = true
		return nil, 0, e
	}
	known := h.Session != [16]byte{}
	if ack.Version < h.MinVersion || ack.Version > h.MaxVersion || ack.Epoch != h.Epoch || known && ack.Session != h.Session {
		return nil, 0, broken("handshake", "HELLO_ACK of version %d, epoch %d, or of another session", ack.Version, ack.Epoch)
	}
	return &ack, time.Since(began), nil
}

// unanswered is err, of reading an answer, with what it may mean that the peer ended a tcp connection without tls
// before its first byte.
func unanswered(conn net.Conn, err error) error {
	var e *fault.Error
	if i, ok := conn.(Identified); ok && i.PeerKey() != "" || !errors.As(err, &e) {
		return err
	}
	if a := conn.RemoteAddr(); a == nil || a.Network() != "tcp" {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		e.Advice = "the peer said nothing: where it listens at tls://, dial that"
	}
	return err
}

// readHandshake reads preface and one frame, byte for byte, so that what
// follows stays in the connection.
func readHandshake(conn net.Conn, want wire.Type, into wire.Message) error {
	var head [len(wire.Preface) + wire.HeaderSize]byte
	if _, err := io.ReadFull(conn, head[:len(wire.Preface)]); err != nil {
		return fault.Wrap("handshake", "", lost(err))
	}
	if !bytes.Equal(head[:len(wire.Preface)], wire.Preface[:]) {
		return &fault.Error{Op: "handshake", Kind: fault.Unsupported, Side: fault.Inferred, Session: true,
			Err: fault.New("preface", fault.Unsupported, "the peer does not speak Pannier; it begins with %q", head[:len(wire.Preface)])}
	}
	if _, err := io.ReadFull(conn, head[len(wire.Preface):]); err != nil {
		return fault.Wrap("handshake", "", lost(err))
	}
	h, err := wire.ParseHeader(head[len(wire.Preface):])
	if err != nil {
		return damaged("", err)
	}
	if h.Ext != 0 || h.Length > wire.MaxHello {
		return broken("handshake", "%v of %d bytes instead of %v", h.Type, h.Length, want)
	}
	body := make([]byte, h.Length)
	if _, err := io.ReadFull(conn, body); err != nil {
		return fault.Wrap("handshake", "", lost(err))
	}
	if err := h.Verify(0, head[len(wire.Preface):], body); err != nil {
		return damaged("", err)
	}
	if h.Type != want {
		return broken("handshake", "%v instead of %v", h.Type, want)
	}
	return wire.Decode(body, into)
}

// peerOf is what a connection and a handshake say about the other end.
func peerOf(conn net.Conn, name string, features []string) Peer {
	p := Peer{Name: name, Features: features, UID: -1}
	if a := conn.RemoteAddr(); a != nil {
		p.Address = a.String()
		p.Local = a.Network() == "unix" || a.Network() == "pipe"
	}
	if i, ok := conn.(Identified); ok {
		p.Key, p.UID = i.PeerKey(), i.PeerUID()
	}
	return p
}

func random16() (b [16]byte) {
	rand.Read(b[:]) // never fails
	return b
}
