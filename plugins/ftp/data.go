package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// passive has the server listen for a data connection, and returns where: always at the
// host of the control connection, whatever the server says. purpose is the command that
// follows, for servers that want to know (PRET).
func (c *conn) passive(ctx context.Context, purpose string) (netip.AddrPort, error) {
	return c.passiveBy(ctx, c.passiveWord(), purpose)
}

// passiveBy is passive with a command of the caller's.
func (c *conn) passiveBy(ctx context.Context, word, purpose string) (netip.AddrPort, error) {
	said, err := c.ask(ctx, c.toListen(word, purpose))
	if err != nil {
		return netip.AddrPort{}, err
	}
	return c.listening(ctx, word, said)
}

// passiveWord has the server listen, as far as is known.
func (c *conn) passiveWord() string {
	if c.noEPSV {
		return "PASV"
	}
	return "EPSV"
}

// toListen are the commands that have the server listen: before the word, a server that wants
// to know which command follows is told.
func (c *conn) toListen(word, purpose string) []string {
	if c.s.feat.has("PRET") {
		return []string{"PRET " + purpose, word}
	}
	return []string{word}
}

// listening is where the replies to toListen say. A server that refuses PRET may listen all the
// same, if it was sent both at once.
func (c *conn) listening(ctx context.Context, word string, said []reply) (netip.AddrPort, error) {
	last := said[len(said)-1]
	c.listens = c.listens || last.good()
	if len(said) > 1 && !said[0].good() {
		return netip.AddrPort{}, c.refused("PRET", "", said[0])
	}
	if word == "EPSV" {
		return c.extended(ctx, last)
	}
	return c.passived(word, last)
}

// extended is where a reply to EPSV says; if the server does not know EPSV, it is asked
// with PASV.
func (c *conn) extended(ctx context.Context, r reply) (netip.AddrPort, error) {
	if r.code == 229 {
		port, ok := extendedPort(r.text())
		if !ok {
			return netip.AddrPort{}, c.badAddress("EPSV", r)
		}
		c.listens = true
		return netip.AddrPortFrom(c.peer, port), nil
	}
	if r.code < 500 {
		return netip.AddrPort{}, c.refused("EPSV", "", r)
	}
	c.noEPSV = true
	r, err := c.command(ctx, "PASV")
	if err != nil {
		return netip.AddrPort{}, err
	}
	return c.passived("PASV", r)
}

// passived is where a reply to PASV or CPSV says, which are for IPv4.
func (c *conn) passived(word string, r reply) (netip.AddrPort, error) {
	if r.code != 227 {
		return netip.AddrPort{}, c.refused(word, "", r)
	}
	port, ok := passivePort(r.text())
	if !ok {
		return netip.AddrPort{}, c.badAddress(word, r)
	}
	c.listens = true
	return netip.AddrPortFrom(c.peer, port), nil
}

func (c *conn) badAddress(word string, r reply) error {
	c.kill()
	return c.said(fault.Protocol, word, "", "the server says no port of 1024 to 65535 at its own host for the data connection: %d %s", r.code, fault.Shown(r.text()))
}

// data is a data connection during a transfer.
type data struct {
	c    *conn
	word string
	path string
	raw  *net.TCPConn
	net.Conn
	stop func() bool // of the context's end
	ctx  context.Context

	judged bool   // the final reply is the verdict of what lies behind the server
	said   string // by the final reply
}

// transfer begins RETR, STOR, APPE, MLSD or LIST. When it returns, the server is ready for
// the bytes. ctx ends also what comes later.
func (c *conn) transfer(ctx context.Context, word, path string, rest int64) (*data, error) {
	line := word
	if path != "" {
		line += " " + path
	}
	if err := c.ordinary(ctx); err != nil {
		return nil, err
	}
	at, err := c.passive(ctx, line)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: c.s.timeout}
	nc, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		err = c.lost(ctx, word, err)
		if e, ok := err.(*fault.Error); ok && e.Advice == "" && ctx.Err() == nil {
			e.Advice = dataPorts
		}
		return nil, err
	}
	t := &data{c: c, word: word, path: path, raw: nc.(*net.TCPConn), Conn: nc, ctx: ctx}
	if err := t.begin(line, rest); err != nil {
		_ = nc.Close()
		return nil, err
	}
	t.stop = context.AfterFunc(ctx, func() {
		_ = t.raw.Close()
		c.kill()
	})
	return t, nil
}

// begin sends the command. Servers differ in whether they begin TLS before they say 150,
// so both are waited for.
func (t *data) begin(line string, rest int64) error {
	c := t.c
	if rest > 0 {
		r, err := c.command(t.ctx, "REST "+strconv.FormatInt(rest, 10))
		if err != nil {
			return err
		}
		if r.code != 350 {
			return c.refused("REST", t.path, r)
		}
	}
	if err := c.send(t.ctx, line); err != nil {
		return err
	}
	shaken := make(chan error, 1)
	if c.prot {
		tc := tls.Client(t.raw, c.tlsState)
		t.Conn = tc
		go func() {
			ctx, cancel := context.WithTimeout(t.ctx, c.s.timeout)
			defer cancel()
			shaken <- tc.HandshakeContext(ctx)
		}()
	} else {
		shaken <- nil
	}
	r, err := c.receive(t.ctx, t.word, c.s.timeout)
	if err == nil && (r.code < 100 || r.code >= 200) {
		if r.good() {
			err = c.lost(t.ctx, t.word, fault.New("reply", fault.Protocol, "the server says %d before anything was transferred", r.code))
		} else {
			err = c.refused(t.word, t.path, r)
		}
	}
	if err != nil {
		_ = t.raw.Close()
		<-shaken
		return err
	}
	if err := <-shaken; err != nil {
		r, late := c.receive(t.ctx, t.word, c.s.grace())
		if late == nil && !r.good() {
			return c.refused(t.word, t.path, r)
		}
		return c.lost(t.ctx, t.word, plugins.Unshaken{Err: err})
	}
	return nil
}

// ordinary undoes what a copy to another server has set.
func (c *conn) ordinary(ctx context.Context) error {
	if c.tlsState == nil {
		return nil
	}
	if c.sscn {
		if _, err := c.must(ctx, "SSCN", "OFF"); err != nil {
			return err
		}
		c.sscn = false
	}
	if !c.prot && !c.clearOnly {
		if _, err := c.must(ctx, "PROT", "P"); err != nil {
			return err
		}
		c.prot = true
	}
	return nil
}

// detach lets the transfer outlive the call that began it: only its own waits bound it,
// and the context of the call that ends it.
func (t *data) detach() {
	if !t.stop() {
		t.c.kill()
	}
	t.stop = func() bool { return true }
	t.ctx = context.WithoutCancel(t.ctx)
}

// Read is of bytes of the file; the server may be silent for the timeout.
func (t *data) Read(p []byte) (int, error) {
	_ = t.raw.SetReadDeadline(time.Now().Add(t.c.s.timeout))
	n, err := t.Conn.Read(p)
	if err != nil && err != io.EOF {
		err = failed(t.ctx, t.word, t.c.at(t.path), err)
	}
	return n, err
}

// Write is of bytes of the file. A server that takes no more has usually said why.
func (t *data) Write(p []byte) (int, error) {
	_ = t.raw.SetWriteDeadline(time.Now().Add(t.c.s.timeout))
	n, err := t.Conn.Write(p)
	if err != nil {
		err = t.why(err)
	}
	return n, err
}

// why is the reason of an error of the data connection: the reply, if there is one soon.
func (t *data) why(err error) error {
	if t.ctx.Err() == nil && !t.c.dead.Load() {
		if r, late := t.c.receive(t.ctx, t.word, t.c.s.grace()); late == nil {
			t.c.kill()
			if !r.good() {
				return t.c.refused(t.word, t.path, r)
			}
		}
	}
	t.c.kill()
	return failed(t.ctx, t.word, t.c.at(t.path), err)
}

// ended says that nothing more is written: with TLS first in its words. Both directions
// are not closed yet, since what a server has sent unread would reset the connection,
// and with it the last bytes.
func (t *data) ended() error {
	_ = t.raw.SetWriteDeadline(time.Now().Add(t.c.s.timeout))
	var err error
	if tc, ok := t.Conn.(*tls.Conn); ok {
		err = tc.CloseWrite()
	}
	return errors.Join(err, t.raw.CloseWrite())
}

// finish waits for the final reply, and closes the data connection: after reading first,
// since with TLS, servers wait for this end's words of leave.
func (t *data) finish() error {
	if t.word != "STOR" && t.word != "APPE" {
		_ = t.Conn.Close()
	}
	final := t.final
	if t.judged {
		final = t.verdict
	}
	r, err := final()
	t.close()
	if err != nil {
		return err
	}
	if !r.good() {
		if r.code < 200 {
			t.c.kill()
		}
		return t.c.refused(t.word, t.path, r)
	}
	t.c.listens, t.said = false, r.text()
	return nil
}

// final waits for the reply to a transfer.
func (t *data) final() (reply, error) { return t.c.receive(t.ctx, t.word, t.c.s.timeout) }

// verdict is final where what lies behind the server has its own time: as long as that is there, and
// says so when it is asked.
func (t *data) verdict() (reply, error) {
	c := t.c
	for asked := 0; ; {
		switch silent, err := c.silent(t.ctx); {
		case err != nil:
			return reply{}, c.lost(t.ctx, t.word, err)
		case silent && asked == mostAsked:
			return reply{}, c.lost(t.ctx, t.word, os.ErrDeadlineExceeded)
		case silent:
			if err := c.send(t.ctx, "NOOP"); err != nil {
				return reply{}, err
			}
			asked++
			continue
		}
		r, err := t.final()
		if err == nil && asked > 0 && r.code == noopCode {
			asked--
			continue
		}
		if asked > 0 { // in the moment that it had its verdict: its answer would be taken for another's
			c.kill()
		}
		return r, err
	}
}

const (
	mostAsked = 2   // times without an answer; more than one, since it may be this host that has stood still
	noopCode  = 200 // is the reply to NOOP, and none to STOR
)

// close ends the data connection, whatever was.
func (t *data) close() {
	_ = t.raw.Close()
	if !t.stop() {
		t.c.kill()
	}
}

// eprt is the command that has a server connect to an address.
func eprt(to netip.AddrPort) string {
	family := "1"
	if to.Addr().Is6() {
		family = "2"
	}
	return "EPRT |" + family + "|" + to.Addr().String() + "|" + strconv.Itoa(int(to.Port())) + "|"
}

// port has the server connect to an address.
func (c *conn) port(ctx context.Context, to netip.AddrPort) (reply, error) {
	r, err := c.command(ctx, eprt(to))
	if err != nil || r.good() || !to.Addr().Is4() {
		return r, err
	}
	host := strings.ReplaceAll(to.Addr().String(), ".", ",")
	return c.command(ctx, "PORT "+host+","+strconv.Itoa(int(to.Port()>>8))+","+strconv.Itoa(int(to.Port()&0xff)))
}
