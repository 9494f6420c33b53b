package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// rawTimeout bounds what a raw peer waits for; nothing is asserted about it.
const rawTimeout = 20 * time.Second

// raw is a peer that speaks the wire by hand, so that it can say what no
// session would.
type raw struct {
	net.Conn
	ack  wire.HelloAck
	sent uint32 // number of the next frame
}

// seal makes frames the next ones of the connection.
func (r *raw) seal(frames []byte) []byte {
	r.sent = wire.Seal(frames, r.sent)
	return frames
}

// send seals and writes frames; a connection that is gone by then is no failure.
func (r *raw) send(frames []byte) { _, _ = r.Write(r.seal(frames)) }

// source is the n-th of many addresses of this host.
func source(n int) net.IP {
	b := binary.BigEndian.AppendUint32(nil, 127<<24|1<<16+uint32(n%(1<<23))+1)
	return net.IP(b)
}

// rawDial connects to an address of any scheme below, from a source; with TLS
// if cfg is not nil.
func rawDial(ctx context.Context, address string, from net.IP, cfg *tls.Config) (net.Conn, error) {
	_, target, _ := strings.Cut(address, "://")
	d := net.Dialer{Timeout: rawTimeout}
	if from != nil {
		d.LocalAddr = &net.TCPAddr{IP: from}
	}
	conn, err := d.DialContext(ctx, "tcp", target)
	if err != nil || cfg == nil {
		return conn, err
	}
	c := tls.Client(conn, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// clientTLS is the tls.Config of a raw client; its key may be nil.
func clientTLS(id *carrier.Identity, protocols ...string) *tls.Config {
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}
	if id != nil {
		cert := id.Certificate()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg
}

// helloOf introduces a raw peer.
func helloOf(p wire.Purpose) wire.Hello {
	h := wire.Hello{
		MinVersion: wire.Version, MaxVersion: wire.Version, Purpose: p, Epoch: 1,
		Name: "raw", MaxFrame: wire.MaxFrame, Window: 256 << 10, MaxStreams: 1 << 20,
	}
	_, _ = rand.Read(h.Node[:])
	return h
}

// greet introduces itself on a connection and reads the answer. A refusal is an
// error of its kind.
func greet(conn net.Conn, h wire.Hello) (*raw, error) {
	f, err := wire.AppendControl(append([]byte(nil), wire.Preface[:]...), wire.TypeHello, 0, h)
	if err != nil {
		return nil, err
	}
	sent := wire.Seal(f[len(wire.Preface):], 0)
	_ = conn.SetDeadline(time.Now().Add(rawTimeout))
	if _, err := conn.Write(f); err != nil {
		return nil, err
	}
	r, ack, err := readAck(conn)
	if err == nil && ack.Kind != 0 {
		err = fault.FromPeer("greet", fault.Kind(ack.Kind), ack.Text)
	}
	r.sent = sent
	return r, err
}

// readAck reads the answer to an introduction.
func readAck(conn net.Conn) (r *raw, ack wire.HelloAck, err error) {
	r = &raw{Conn: conn}
	if _, err := io.ReadFull(conn, make([]byte, len(wire.Preface))); err != nil {
		return r, ack, err
	}
	head, body, err := r.next()
	if err != nil {
		return r, ack, err
	}
	if head.Type != wire.TypeHelloAck {
		return r, ack, fault.New("greet", fault.Protocol, "%v", head.Type)
	}
	err = wire.Decode(body[8*int(head.Ext):], &ack)
	r.ack = ack
	return r, ack, err
}

// next reads one frame.
func (r *raw) next() (wire.Header, []byte, error) {
	var head [wire.HeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return wire.Header{}, nil, err
	}
	h, err := wire.ParseHeader(head[:])
	if err != nil {
		return h, nil, err
	}
	body := make([]byte, 8*int(h.Ext)+int(h.Length))
	_, err = io.ReadFull(r, body)
	return h, body, err
}

// alive asks for a sign of life: true when the peer answers, false when it
// closes the connection. What comes before is skipped.
func (r *raw) alive(nonce uint64) bool {
	_ = r.SetDeadline(time.Now().Add(rawTimeout))
	r.send(wire.AppendPing(nil, nonce))
	for {
		h, body, err := r.next()
		if err != nil {
			return false
		}
		if n, err := wire.ParseU64(body[8*int(h.Ext):]); h.Type == wire.TypePong && err == nil && n == nonce {
			return true
		}
	}
}

// frame is a frame with any header and body, allowed or not.
func frame(h wire.Header, body []byte) []byte {
	h.Length = uint32(len(body))
	f := make([]byte, wire.HeaderSize, wire.HeaderSize+len(body))
	h.Put(f)
	return append(f, body...)
}

// controlFrame is a whole control frame of a message that is within its limits.
func controlFrame(t wire.Type, stream uint32, m wire.Message) []byte {
	f, err := wire.AppendControl(nil, t, stream, m)
	if err != nil {
		panic(fmt.Sprintf("%v: %v", t, err))
	}
	return f
}
