package carrier

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// CPU of the whole process, user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bulk writes blocks of 256 KiB and headers over c and reads them at s in the
// manner of a lane: header, then payload.
func bulk(b *testing.B, c, s net.Conn) {
	const block = 256<<10 + 64
	b.SetBytes(block)
	b.ReportAllocs()
	out, in := make([]byte, block), make([]byte, block)
	var wg sync.WaitGroup
	cpu := cpuTime()
	n := 0
	wg.Go(func() {
		for {
			if _, err := io.ReadFull(s, in[:16]); err != nil {
				return
			}
			if _, err := io.ReadFull(s, in[16:]); err != nil {
				return
			}
		}
	})
	for b.Loop() {
		n++
		if _, err := c.Write(out); err != nil {
			b.Fatal(err)
		}
	}
	_ = c.(HalfCloser).CloseWrite()
	wg.Wait()
	b.ReportMetric((cpuTime()-cpu).Seconds()/float64(n)/block*(1<<30), "cpu-s/GiB")
}

func BenchmarkBulk(b *testing.B) {
	id, err := NewIdentity()
	if err != nil {
		b.Fatal(err)
	}
	for _, address := range []string{"tcp://127.0.0.1:0", "tls://127.0.0.1:0", "unix://" + b.TempDir() + "/s"} {
		name, _, _ := net.SplitHostPort(address[:3] + ":0")
		b.Run(name, func(b *testing.B) {
			o := Options{Identity: id, Pins: Pins{id.Key()}}
			if name == "tcp" {
				o = Options{}
			}
			l, err := Listen(address, o)
			if err != nil {
				b.Fatal(err)
			}
			lanes := make(chan net.Conn, 1)
			go func() { _ = l.Serve(func(c net.Conn) { lanes <- c }, nil) }()
			defer l.Close()
			d, err := NewDialer(l.Address().String(), o)
			if err != nil {
				b.Fatal(err)
			}
			c, err := d.Dial(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			writePreface(b, c)
			s := <-lanes
			defer s.Close()
			readPreface(b, s)
			bulk(b, c, s)
		})
	}
}

// BenchmarkHandshake is a full handshake with certificates on both sides, both
// ends in this process, for the kinds of key an identity could have.
func BenchmarkHandshake(b *testing.B) {
	ed, err := NewIdentity()
	if err != nil {
		b.Fatal(err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	p256, err := selfSigned(private)
	if err != nil {
		b.Fatal(err)
	}
	for name, id := range map[string]*Identity{"p256": p256, "ed25519": ed} {
		b.Run(name, func(b *testing.B) { handshakes(b, id) })
	}
}

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
