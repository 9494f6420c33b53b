package bench

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"sync"

	"github.com/hashicorp/yamux"
	"github.com/xtaci/smux"

	"github.com/pannier/pannier/spec/fault"
)

// muxSession is what the multiplexers of others have in common.
type muxSession interface {
	Open() (io.ReadWriteCloser, error)
	Accept() (io.ReadWriteCloser, error)
	Close() error
}

type yamuxSession struct{ *yamux.Session }

func (s yamuxSession) Open() (io.ReadWriteCloser, error)   { return s.OpenStream() }
func (s yamuxSession) Accept() (io.ReadWriteCloser, error) { return s.AcceptStream() }

func yamuxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.LogOutput, c.Logger = nil, log.New(io.Discard, "", 0)
	return c
}

func yamuxClient(c net.Conn) (muxSession, error) {
	s, err := yamux.Client(c, yamuxConfig())
	return yamuxSession{s}, err
}

func yamuxServer(c net.Conn) (muxSession, error) {
	s, err := yamux.Server(c, yamuxConfig())
	return yamuxSession{s}, err
}

// smuxSession's streams have no half-close: Close ends both directions.
type smuxSession struct{ *smux.Session }

func (s smuxSession) Open() (io.ReadWriteCloser, error)   { return s.OpenStream() }
func (s smuxSession) Accept() (io.ReadWriteCloser, error) { return s.AcceptStream() }

func smuxConfig() *smux.Config {
	c := smux.DefaultConfig()
	c.Version = 2
	return c
}

func smuxClient(c net.Conn) (muxSession, error) {
	s, err := smux.Client(c, smuxConfig())
	return smuxSession{s}, err
}

func smuxServer(c net.Conn) (muxSession, error) {
	s, err := smux.Server(c, smuxConfig())
	return smuxSession{s}, err
}

// Streams of these ends are not waited for: thousands take long to end, and are gone with
// the process.

// muxExit takes one connection of an entry and leads its streams to the server.
func muxExit(wrap func(net.Conn) (muxSession, error)) func(context.Context, Job) (*post, error) {
	return func(_ context.Context, job Job) (*post, error) {
		l, err := serveEach(func(c *net.TCPConn) {
			s, err := wrap(c)
			if err != nil {
				return
			}
			for {
				st, err := s.Accept()
				if err != nil {
					break
				}
				go func() {
					to, err := net.Dial("tcp", job.To)
					if err != nil {
						_ = st.Close()
						return
					}
					join(to.(*net.TCPConn), st)
				}()
			}
			_ = s.Close()
		})
		if err != nil {
			return nil, err
		}
		return &post{addr: l.addr, close: l.l.Close}, nil
	}
}

// muxEntry gives each connection a stream on one connection to the exit.
func muxEntry(wrap func(net.Conn) (muxSession, error)) func(context.Context, Job) (*post, error) {
	return func(_ context.Context, job Job) (*post, error) {
		c, err := net.Dial("tcp", job.Addr)
		if err != nil {
			return nil, fault.Wrap("connect", job.Addr, err)
		}
		s, err := wrap(c)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		l, err := serveEach(func(c *net.TCPConn) {
			if st, err := s.Open(); err == nil {
				join(c, st)
			}
		})
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		return &post{addr: l.addr, close: l.l.Close}, nil
	}
}

// join copies both ways, as relays over these multiplexers are written.
func join(a, b io.ReadWriteCloser) {
	var wg sync.WaitGroup
	for _, d := range [][2]io.ReadWriteCloser{{a, b}, {b, a}} {
		wg.Go(func() {
			_, _ = io.Copy(d[0], d[1])
			if h, ok := d[0].(interface{ CloseWrite() error }); ok {
				_ = h.CloseWrite()
			} else {
				_ = d[0].Close()
			}
		})
	}
	wg.Wait()
	_ = a.Close()
	_ = b.Close()
}
