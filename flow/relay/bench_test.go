package relay

import (
	"encoding/binary"
	"io"
	"log"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
	"github.com/xtaci/smux"

	"github.com/pannier/pannier/flow"
)

// BenchmarkRelay compares, in alternating rounds, a connection of the system with
// one that is relayed here and by other multiplexers, each over one TCP connection and
// with io.Copy, as their users write it. All ends are in this process.
//
//	go test -run - -bench Relay -benchtime 7x ./flow/relay
//
// It reports medians over the rounds: bulk in MB/s and in CPU s/GiB, a ping-pong of
// 1 byte in us, and the memory of 1,000 idle connections, both sides together.
func BenchmarkRelay(b *testing.B) {
	for _, what := range []struct {
		name string
		unit string
		run  func(b *testing.B, address string) []float64
		more string
	}{
		{"bulk", "MB/s", bulk, "CPU-s/GiB"},
		{"pingpong", "us", pingPong, ""},
		{"idle", "KiB/conn", idle, "stack-KiB/conn"},
		{"churn", "conns/s", churn, "lost"},
	} {
		b.Run(what.name, func(b *testing.B) {
			server := sink(b)
			ways := []struct{ name, address string }{
				{"direct", server}, {"relay", throughRelay(b, server)}, {"yamux", throughYamux(b, server)}, {"smux", throughSmux(b, server)},
			}
			figures := map[string][][]float64{}
			for b.Loop() {
				for _, w := range ways {
					figures[w.name] = append(figures[w.name], what.run(b, w.address))
				}
			}
			for _, w := range ways {
				b.ReportMetric(median(figures[w.name], 0), w.name+"-"+what.unit)
				if what.more != "" {
					b.ReportMetric(median(figures[w.name], 1), w.name+"-"+what.more)
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(rounds [][]float64, i int) float64 {
	var all []float64
	for _, r := range rounds {
		all = append(all, r[i])
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// sink reads to the end and answers with one byte, or echoes single bytes first: a
// client's first byte says which.
func sink(b *testing.B) string {
	return listenEach(b, func(c net.Conn) {
		buf := make([]byte, 1)
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		if buf[0] == 'e' {
			for {
				if _, err := c.Write(buf); err != nil {
					return
				}
				if _, err := c.Read(buf); err != nil {
					return
				}
			}
		}
		big := make([]byte, 256<<10)
		for {
			if _, err := c.Read(big); err != nil {
				break
			}
		}
		c.Write(buf)
	})
}

// listenEach serves every connection in a goroutine of its own.
func listenEach(b *testing.B, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); serve(c) })
		}
	})
	b.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func throughRelay(b *testing.B, to string) string {
	w := join(b, Config{}, unhurried("tcp://"+to), true, flow.Config{})
	w.add("tcp://127.0.0.1:0", "tcp://"+to, func(r *Relay) { r.Limits.Opens = -1 })
	return w.bound(0)
}

// splice is how relays over other multiplexers are written.
func splice(a, c io.ReadWriteCloser) {
	var wg sync.WaitGroup
	for _, d := range [][2]io.ReadWriteCloser{{a, c}, {c, a}} {
		wg.Go(func() {
			io.Copy(d[0], d[1])
			if h, ok := d[0].(interface{ CloseWrite() error }); ok {
				h.CloseWrite()
			} else {
				d[0].Close()
			}
		})
	}
	wg.Wait()
	a.Close()
	c.Close()
}

type muxSession interface {
	Open() (io.ReadWriteCloser, error)
	Accept() (io.ReadWriteCloser, error)
	Close() error
}

type yamuxSession struct{ *yamux.Session }

func (s yamuxSession) Open() (io.ReadWriteCloser, error)   { return s.OpenStream() }
func (s yamuxSession) Accept() (io.ReadWriteCloser, error) { return s.AcceptStream() }

// smuxSession's streams have no half-close: Close ends both directions.
type smuxSession struct{ *smux.Session }

func (s smuxSession) Open() (io.ReadWriteCloser, error)   { return s.OpenStream() }
func (s smuxSession) Accept() (io.ReadWriteCloser, error) { return s.AcceptStream() }

func throughYamux(b *testing.B, to string) string {
	cfg := yamux.DefaultConfig()
	cfg.LogOutput, cfg.Logger = nil, log.New(io.Discard, "", 0)
	return throughMux(b, to,
		func(c net.Conn) (muxSession, error) { s, err := yamux.Client(c, cfg); return yamuxSession{s}, err },
		func(c net.Conn) (muxSession, error) { s, err := yamux.Server(c, cfg); return yamuxSession{s}, err })
}

func throughSmux(b *testing.B, to string) string {
	cfg := smux.DefaultConfig()
	cfg.Version = 2
	return throughMux(b, to,
		func(c net.Conn) (muxSession, error) { s, err := smux.Client(c, cfg); return smuxSession{s}, err },
		func(c net.Conn) (muxSession, error) { s, err := smux.Server(c, cfg); return smuxSession{s}, err })
}

func throughMux(b *testing.B, to string, client, server func(net.Conn) (muxSession, error)) string {
	exit := listenEach(b, func(c net.Conn) {
		s, err := server(c)
		if err != nil {
			return
		}
		defer s.Close()
		for {
			st, err := s.Accept()
			if err != nil {
				return
			}
			go func() {
				if d, err := net.Dial("tcp", to); err == nil {
					splice(st, d.(*net.TCPConn))
				}
			}()
		}
	})
	c, err := net.Dial("tcp", exit)
	if err != nil {
		b.Fatal(err)
	}
	s, err := client(c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close(); c.Close() })
	return listenEach(b, func(c net.Conn) {
		if st, err := s.Open(); err == nil {
			splice(c.(*net.TCPConn), st)
		}
	})
}

const bulkSize = 512 << 20

func bulk(b *testing.B, address string) []float64 {
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	data := make([]byte, 256<<10)
	data[0] = 'b'
	cpu, began := cpuTime(), time.Now()
	for sent := 0; sent < bulkSize; sent += len(data) {
		if _, err := c.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	c.(*net.TCPConn).CloseWrite()
	c.Read(data[:1]) // without half-close, smux may have ended before its byte has come
	took, used := time.Since(began), cpuTime()-cpu
	return []float64{bulkSize / 1e6 / took.Seconds(), used.Seconds() / (float64(bulkSize) / (1 << 30))}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func pingPong(b *testing.B, address string) []float64 {
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const trips = 2000
	took := make([]float64, trips)
	buf := []byte{'e'}
	for i := range took {
		began := time.Now()
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
		took[i] = float64(time.Since(began).Nanoseconds()) / 1e3
	}
	slices.Sort(took)
	return []float64{took[trips/2]}
}

// idle is the memory of a connection that has been used once, both sides of the
// relay, the client and the server together.
func idle(b *testing.B, address string) []float64 {
	const n = 1000
	before, stackBefore := memory()
	conns := make([]net.Conn, n)
	buf := []byte{'e'}
	for i := range conns {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		conns[i] = c
		c.Write(buf)
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
	used, stack := memory()
	for _, c := range conns {
		c.Close()
	}
	time.Sleep(300 * time.Millisecond) // all of it is given back before the next
	return []float64{float64(used-before) / 1024 / n, float64(stack-stackBefore) / 1024 / n}
}

// memory is what is in use, and how much of it is stacks.
func memory() (all, stacks int64) {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse), int64(m.StackInuse)
}

// unhurried lets any number of connections be opened a second.
func unhurried(to string) Config {
	cfg := allowAll(to)
	cfg.Policy[0].Limits.Opens = -1
	return cfg
}

// churn opens connections, has one byte echoed on each and closes it, eight at a
// time.
func churn(b *testing.B, address string) []float64 {
	const n, workers = 2000, 8
	var lost atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range workers {
		wg.Go(func() {
			buf := []byte{'e'}
			for range n / workers {
				c, err := net.Dial("tcp", address)
				if err == nil {
					c.Write(buf)
					_, err = io.ReadFull(c, buf)
					c.Close()
				}
				if err != nil {
					lost.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return []float64{n / time.Since(began).Seconds(), float64(lost.Load())}
}

// BenchmarkDatagrams sends 50,000 datagrams of 200 bytes a second through a relay
// for a second, and reports how many arrived and how many the relay has dropped; the rest is the
// kernel's, whose buffers (rmem_max) hold a few milliseconds.
func BenchmarkDatagrams(b *testing.B) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	enlarge(server)
	var arrived, disorder atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf, last := make([]byte, 2000), uint64(0)
		for {
			if _, _, err := server.ReadFrom(buf); err != nil {
				return
			}
			if n := binary.BigEndian.Uint64(buf); n <= last {
				disorder.Add(1)
			} else {
				last = n
			}
			arrived.Add(1)
		}
	}()
	defer func() { server.Close(); <-done }()
	to := "udp://" + server.LocalAddr().String()
	w := join(b, Config{}, allowAll(to), true)
	w.add("udp://127.0.0.1:0", to)
	c, err := net.Dial("udp", w.bound(0))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const perMilli = 50
	sent, cpu := uint64(0), cpuTime()
	for b.Loop() {
		began := time.Now()
		for milli := range 1000 {
			time.Sleep(time.Until(began.Add(time.Duration(milli) * time.Millisecond)))
			for range perMilli {
				sent++
				data := make([]byte, 200)
				binary.BigEndian.PutUint64(data, sent)
				c.Write(data)
			}
		}
	}
	used := cpuTime() - cpu
	time.Sleep(200 * time.Millisecond)
	b.ReportMetric(float64(arrived.Load())/float64(sent)*100, "%arrived")
	b.ReportMetric(float64(w.west.Stats()[0].Dropped+w.east.Stats()[0].Dropped), "dropped-by-relay")
	b.ReportMetric(float64(disorder.Load()), "out-of-order")
	b.ReportMetric(used.Seconds()*1e6/float64(sent), "CPU-us/datagram")
}
