package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/spec/fault"
)

var authentication = check{
	id: 32, title: "no certificate, same name and other key, expired, stolen certificate, TLS 1.2, plain bytes, no or wrong ALPN, handshakes cut short, resumption after the pin was removed, as lane and as HTTP/2: none becomes a session or a call",
	unit: "accepted", n: counts{reduced: 40, full: 1000},
	mutant: "any certificate is accepted",
	run:    runAuthentication,
}

// gate is a server that counts who got in.
type gate struct {
	server   *running
	revoked  atomic.Bool
	sessions atomic.Int64
	calls    atomic.Int64
}

// newGate lets one key in; with open, any.
func newGate(id *carrier.Identity, key string, open bool) (*gate, error) {
	g := &gate{}
	cfg := rpc.ServerConfig{Identity: id, AuthorizeKey: func(k string) error {
		if open || k == key && !g.revoked.Load() {
			return nil
		}
		return fault.New("authorize", fault.Permission, "not on the list")
	}}
	cfg.Flow.Authorize = func(flow.Peer) error { g.sessions.Add(1); return nil }
	var err error
	g.server, err = serving(cfg, "tls://127.0.0.1:0", func(context.Context, string) error { g.calls.Add(1); return nil })
	return g, err
}

// entered is how many sessions and calls there were.
func (g *gate) entered() int64 { return g.sessions.Load() + g.calls.Load() }

// attempt is one way to try it.
type attempt struct {
	name string
	cfg  *tls.Config // nil: no TLS
	cut  int         // bytes of the ClientHello that are said; 0 = all
	alpn []string    // instead of the protocol's own; nil: that
}

func runAuthentication(ctx context.Context, j *job) (result, error) {
	id, err1 := carrier.NewIdentity()
	good, err2 := carrier.NewIdentity()
	other, err3 := carrier.NewIdentity()
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return result{}, err
		}
	}
	g, err := newGate(id, good.Key(), j.broken)
	if err != nil {
		return result{}, err
	}
	defer g.server.stop()
	var w note
	all, err := attempts(good, other, id, j)
	if err != nil {
		return result{}, err
	}
	for _, a := range all {
		for _, protocol := range []string{carrier.ProtocolLane, carrier.ProtocolHTTP2} {
			before := g.entered()
			if err := g.try(ctx, a, protocol); err == nil {
				w.add("%s as %s: answered", a.name, protocol)
			}
			if g.entered() != before {
				w.add("%s as %s: got in", a.name, protocol)
			}
		}
	}
	refusedIn := g.entered()
	tried := 2 * len(all)
	if err := g.revocation(ctx, good, &w); err != nil {
		return result{}, err
	}
	return w.result(float64(refusedIn), "of %d; the right key got in before and not after its removal", tried+2), nil
}

// attempts are all that must be refused.
func attempts(good, other, server *carrier.Identity, j *job) ([]attempt, error) {
	stale, err := certificate(time.Now().Add(-time.Hour))
	if err != nil {
		return nil, err
	}
	stolen := good.Certificate()
	stolen.PrivateKey = other.Certificate().PrivateKey
	with := func(c tls.Certificate) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }}
	}
	old := with(good.Certificate())
	old.MaxVersion = tls.VersionTLS12
	all := []attempt{
		{name: "no certificate", cfg: with(tls.Certificate{})},
		{name: "other key, same name", cfg: with(other.Certificate())},
		{name: "expired", cfg: with(stale)},
		{name: "right certificate, other key", cfg: with(stolen)},
		{name: "the server's own key", cfg: with(server.Certificate())},
		{name: "TLS 1.2", cfg: old},
		{name: "plain bytes"},
		{name: "no ALPN", cfg: with(good.Certificate()), alpn: []string{}},
		{name: "wrong ALPN", cfg: with(good.Certificate()), alpn: []string{"http/1.1"}},
	}
	for range j.n {
		all = append(all, attempt{name: "handshake cut short", cfg: with(good.Certificate()), cut: 1 + j.rnd.IntN(200)})
	}
	return all, nil
}

// certificate is one that ends at a time, of those addresses.
func certificate(end time.Time, of ...net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fault.Wrap("make certificate", "", err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pannier"}, NotBefore: end.Add(-time.Hour), NotAfter: end, IPAddresses: of}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, fault.Wrap("make certificate", "", err)
}

// try makes one attempt. nil: the server has answered as it does to those it
// lets in.
func (g *gate) try(ctx context.Context, a attempt, protocol string) error {
	if a.cut > 0 {
		return g.short(ctx, a.cut)
	}
	var cfg *tls.Config
	if a.cfg != nil {
		cfg = a.cfg.Clone()
		if cfg.NextProtos = []string{protocol}; a.alpn != nil {
			cfg.NextProtos = a.alpn
		}
	}
	c, err := rawDial(ctx, g.server.address, nil, cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(rawTimeout))
	if protocol == carrier.ProtocolLane {
		_, err = greet(c, helloOf(wire.Control))
		return err
	}
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, c)
	_ = f.WriteSettings()
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers(putMethod), EndHeaders: true})
	_ = f.WriteData(1, true, make([]byte, 5))
	if _, err := c.Write(b.Bytes()); err != nil {
		return err
	}
	for { // a server that lets in sends its settings and an answer
		got, err := f.ReadFrame()
		if err != nil {
			return err
		}
		if _, ok := got.(*http2.HeadersFrame); ok {
			return nil
		}
	}
}

// short says the beginning of a ClientHello and waits until it is thrown out.
func (g *gate) short(ctx context.Context, n int) error {
	hello, err := clientHello()
	if err != nil {
		return err
	}
	c, err := rawDial(ctx, g.server.address, nil, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(hello[:min(n, len(hello)-1)]); err != nil {
		return err
	}
	if t, ok := c.(interface{ CloseWrite() error }); ok {
		_ = t.CloseWrite()
	}
	_ = c.SetDeadline(time.Now().Add(rawTimeout))
	_, _ = io.Copy(io.Discard, c)
	return io.ErrUnexpectedEOF
}

// revocation: the right key gets in, with a client that would resume; once the
// key is not allowed any more, it does not.
func (g *gate) revocation(ctx context.Context, good *carrier.Identity, w *note) error {
	cfg := clientTLS(good)
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	for _, protocol := range []string{carrier.ProtocolLane, carrier.ProtocolHTTP2} {
		g.revoked.Store(false)
		if err := g.try(ctx, attempt{cfg: cfg}, protocol); err != nil {
			w.add("the right key as %s was refused: %v", protocol, err)
		}
		g.revoked.Store(true)
		if g.try(ctx, attempt{cfg: cfg}, protocol) == nil {
			w.add("the right key as %s got in after its removal", protocol)
		}
	}
	return nil
}
