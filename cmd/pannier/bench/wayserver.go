package bench

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/pannier/pannier/spec/fault"
)

// First bytes of a connection.
const (
	wantEcho = 'e' // every byte comes back
	wantSink = 's' // one byte comes back at the end of all
)

// wayBuffer is how much clients and servers read and write at once.
const wayBuffer = 256 << 10

// wayServer is what connections and datagrams lead to.
func wayServer() (*post, error) {
	conns, err := serveEach(serveWay)
	if err != nil {
		return nil, err
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(fault.Wrap("listen", "", err), conns.close())
	}
	enlarge(packets)
	var came counts
	var mu sync.Mutex
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf, last := make([]byte, 64<<10), uint64(0)
		for {
			n, _, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			if n < 8 {
				continue
			}
			mu.Lock()
			came.Arrived++
			if number := binary.BigEndian.Uint64(buf); number < last {
				came.Disorder++
			} else {
				last = number
			}
			mu.Unlock()
		}
	}()
	return &post{
		addr: conns.addr, udp: packets.LocalAddr().String(),
		obey: func(o order) reply {
			if o.Verb != verbDatagrams {
				return answerUsage(o)
			}
			mu.Lock()
			defer mu.Unlock()
			c := came
			return reply{Counts: &c}
		},
		close: func() error { err := packets.Close(); <-done; return errors.Join(err, conns.close()) },
	}, nil
}

// enlarge asks for as large a buffer as the system gives, without which datagrams are lost
// in the kernel.
func enlarge(c net.PacketConn) { _ = c.(*net.UDPConn).SetReadBuffer(8 << 20) }

func serveWay(c *net.TCPConn) {
	var first [1]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		return
	}
	if first[0] == wantEcho {
		for {
			if _, err := c.Write(first[:]); err != nil {
				return
			}
			if _, err := c.Read(first[:]); err != nil {
				return
			}
		}
	}
	buf := make([]byte, wayBuffer)
	for {
		if _, err := c.Read(buf); err != nil {
			break
		}
	}
	_, _ = c.Write(first[:])
}

// eachServer serves every connection in a goroutine of its own.
type eachServer struct {
	addr string
	l    net.Listener
	wg   sync.WaitGroup
	over atomic.Bool
	mu   sync.Mutex
	open map[*net.TCPConn]struct{}
}

func serveEach(serve func(*net.TCPConn)) (*eachServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fault.Wrap("listen", "", err)
	}
	s := &eachServer{addr: l.Addr().String(), l: l, open: map[*net.TCPConn]struct{}{}}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			switch {
			case err == nil:
				s.wg.Go(func() { s.serve(c.(*net.TCPConn), serve) })
			case errors.Is(err, syscall.ECONNABORTED): // by its client, meanwhile
			default:
				return
			}
		}
	})
	return s, nil
}

func (s *eachServer) serve(c *net.TCPConn, serve func(*net.TCPConn)) {
	s.mu.Lock()
	s.open[c] = struct{}{}
	s.mu.Unlock()
	if !s.over.Load() {
		serve(c)
	}
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
	_ = c.Close()
}

func (s *eachServer) close() error {
	s.over.Store(true)
	err := s.l.Close()
	s.mu.Lock()
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return fault.Wrap("end server", "", err)
}
