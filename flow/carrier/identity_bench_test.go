package carrier

import (
	"crypto/tls"
	"net"
	"testing"
)

func handshakes(b *testing.B, id *Identity) {
	o := Options{Identity: id, Pins: Pins{id.Key()}, Protocols: []string{ProtocolLane}}
	client, err := o.clientConfig("peer")
	if err != nil {
		b.Fatal(err)
	}
	server, err := o.serverConfig()
	if err != nil {
		b.Fatal(err)
	}
	cpu := cpuTime()
	n := 0
	for b.Loop() {
		n++
		x, y := NewPair()
		done := make(chan error, 1)
		go func() { done <- tls.Server(y, server).Handshake() }()
		if err := tls.Client(x, client).Handshake(); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(n), "cpu-us/handshake")
}

func writePreface(t testing.TB, c net.Conn) {
	t.Helper()
	if _, err := c.Write(preface()); err != nil {
		t.Fatal(err)
	}
}
