package ftpd

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// minPort is the first port that a data connection may go to: below it are services.
const minPort = 1024

// port is where the next data connection is: a listener, or an address of the client.
type port struct {
	l    *net.TCPListener
	to   netip.AddrPort
	once sync.Once
	idle *time.Timer
}

// close gives it up; nil has nothing.
func (p *port) close() {
	if p == nil {
		return
	}
	p.once.Do(func() {
		if p.l != nil {
			_ = p.l.Close()
		}
	})
}

// listen makes a listener at the address that the client has connected to, and gives up
// what was before. Nobody waits for it longer than the timeout.
func (c *client) listen() (uint16, *reply) {
	c.port.close()
	c.port = nil
	l, err := c.s.bind(c.local)
	if err != nil {
		c.log.Warn("there is no port for a data connection", "error", err)
		return 0, refuse(425, "There is no port to listen at now.")
	}
	p := &port{l: l}
	p.idle = time.AfterFunc(time.Hour, p.close)
	p.idle.Reset(c.s.timeout) // not before idle is set
	c.port = p
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

// bind listens at one of the passive ports, beginning anywhere.
func (s *server) bind(at netip.Addr) (*net.TCPListener, error) {
	n := s.portMax - s.portMin + 1
	first := 0
	if s.portMin > 0 {
		first = rand.IntN(n)
	} else {
		n = 1
	}
	var err error
	for i := range n {
		port := 0
		if s.portMin > 0 {
			port = s.portMin + (first+i)%n
		}
		var l *net.TCPListener
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, uint16(port))))
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
	}
	return nil, err
}

func (c *client) pasvCommand(string) reply {
	at := c.local
	if c.s.external.IsValid() {
		at = c.s.external
	}
	switch {
	case c.epsv:
		return say(503, "After EPSV ALL there is EPSV only.")
	case !at.Is4() || !c.local.Is4():
		return say(522, "PASV is for IPv4; use EPSV.")
	}
	p, bad := c.listen()
	if bad != nil {
		return *bad
	}
	return say(227, "Connect to (%s,%d,%d).", strings.ReplaceAll(at.String(), ".", ","), p>>8, p&0xff)
}

func (c *client) epsvCommand(arg string) reply {
	family := "1"
	if c.local.Is6() {
		family = "2"
	}
	switch strings.ToUpper(arg) {
	case "ALL":
		c.epsv = true
		return say(200, "EPSV only, from now on.")
	case "", family:
	case "1", "2":
		return say(522, "This connection is of another family, use (%s)", family)
	default:
		return say(501, "EPSV has nothing, 1, 2 or ALL after it.")
	}
	p, bad := c.listen()
	if bad != nil {
		return *bad
	}
	return say(229, "Connect to (|||%d|).", p)
}

func (c *client) portCommand(arg string) reply {
	var b [6]byte
	f := strings.Split(arg, ",")
	if len(f) != len(b) {
		return say(501, "PORT has six numbers.")
	}
	for i := range b {
		n, err := strconv.ParseUint(strings.TrimSpace(f[i]), 10, 8)
		if err != nil {
			return say(501, "PORT has six numbers of 0 to 255.")
		}
		b[i] = byte(n)
	}
	return c.active(netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), uint16(b[4])<<8|uint16(b[5])))
}

func (c *client) eprtCommand(arg string) reply {
	f := strings.Split(arg, arg[:1])
	if len(f) != 5 || f[0] != "" || f[4] != "" {
		return say(501, "EPRT is |1|ADDRESS|PORT| or |2|ADDRESS|PORT|.")
	}
	if f[1] != "1" && f[1] != "2" {
		return say(522, "There is no such family, use (1,2)")
	}
	a, err := netip.ParseAddr(f[2])
	p, err2 := strconv.ParseUint(f[3], 10, 16)
	if err != nil || err2 != nil || a.Is4() != (f[1] == "1") {
		return say(501, "This is no address of its family, or no port.")
	}
	return c.active(netip.AddrPortFrom(a.Unmap(), uint16(p)))
}

// active notes an address to connect to: the client's own, and no service there.
func (c *client) active(to netip.AddrPort) reply {
	switch {
	case !c.s.active:
		return say(502, "Data connections are passive here: use EPSV or PASV.")
	case c.epsv:
		return say(503, "After EPSV ALL there is EPSV only.")
	case to.Addr().WithZone("") != c.peer.WithZone(""):
		c.log.Warn("a client has asked for a data connection to another host", "to", to)
		return say(504, "Data connections go to your own address only.")
	case to.Port() < minPort:
		return say(504, "Data connections go to ports from %d only.", minPort)
	}
	c.port.close()
	c.port = &port{to: netip.AddrPortFrom(c.peer, to.Port())}
	return say(200, "Good.")
}

// connect is the data connection. Others than the client's address are closed, and waiting
// goes on.
func (p *port) connect(ctx context.Context, c *client) (net.Conn, error) {
	defer p.close()
	ctx, cancel := context.WithTimeout(ctx, c.s.timeout)
	defer cancel()
	if p.l == nil {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: c.local.AsSlice(), Zone: c.local.Zone()}}
		return d.DialContext(ctx, "tcp", p.to.String())
	}
	if !p.idle.Stop() {
		return nil, net.ErrClosed
	}
	defer context.AfterFunc(ctx, p.close)()
	for {
		nc, err := p.l.Accept()
		if err != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		if a, ok := addressOf(nc.RemoteAddr()); ok && a == c.peer {
			return nc, nil
		}
		c.log.Warn("somebody else has come to the data connection of a client", "who", nc.RemoteAddr())
		_ = nc.Close()
	}
}
