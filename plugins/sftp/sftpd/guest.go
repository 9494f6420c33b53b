package sftpd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/places"
	"github.com/pannier/pannier/spec/fault"
)

const (
	maxChannels   = 4                // of a connection, at a time
	subsystemTime = 30 * time.Second // until a channel is one of SFTP
)

// guest is a connection, and who is at its end.
type guest struct {
	v       *server
	from    netip.Prefix
	line    *line
	user    string // who it says it is
	refused int    // how often it was not that
	session plugins.Session
	can     plugins.Capabilities
	hard    context.Context // of what may go on after the client has gone
	early   *budget

	asked   atomic.Int64 // when a request was read, or a reply written, last: of line.clock
	working atomic.Int64 // calls of the node that run

	mu       sync.Mutex
	left     int  // requests that are not answered, and what is open
	draining bool // it ends with the last of them
	conn     *ssh.ServerConn
}

// errDisplaced is why somebody who has not logged in has to leave.
var errDisplaced = fault.New("login", fault.Overloaded, "others are waiting, and the client has not logged in")

// receive serves a connection from its beginning to its end. As a stranger the client has to leave with the context.
func (v *server) receive(stranger context.Context, conn net.Conn, from netip.Prefix, place *places.Place) {
	g := &guest{v: v, from: from, line: newLine(conn, v.cfg.strangerBytes()), hard: v.hard, early: &budget{left: maxEarly}}
	defer conn.Close()
	chans, requests, err := g.login(stranger, place)
	if g.session != nil {
		defer func() { _ = g.session.Close() }()
	}
	if err != nil {
		g.log().Info("a client was not let in", "error", err)
		return
	}
	g.log().Info("a client is here", "client", string(g.conn.ClientVersion()))
	g.can = g.session.Capabilities()
	g.active()
	over := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { ssh.DiscardRequests(requests) }) // which says no where it has to answer
	all.Go(func() { g.watch(over) })
	g.channels(chans)
	close(over)
	all.Wait()
	g.log().Info("a client is gone")
}

func (g *guest) log() *slog.Logger {
	return slog.With("address", g.line.RemoteAddr().String(), "user", g.user)
}

// channels serves the channels of a connection until it ends.
func (g *guest) channels(chans <-chan ssh.NewChannel) {
	var open atomic.Int64
	var all sync.WaitGroup
	defer all.Wait()
	for n := range chans {
		switch {
		case n.ChannelType() != "session":
			_ = n.Reject(ssh.Prohibited, "this server has SFTP and nothing else")
			continue
		case open.Load() >= maxChannels:
			_ = n.Reject(ssh.ResourceShortage, "there are as many channels as a connection may have")
			continue
		}
		ch, requests, err := n.Accept()
		if err != nil {
			continue
		}
		open.Add(1)
		all.Go(func() {
			defer open.Add(-1)
			g.channel(ch, requests)
		})
	}
}

// channel waits for the request of the subsystem, and serves it. Others are denied. It
// returns when the client has agreed that the channel is closed, since until then the
// client may fill its window.
func (g *guest) channel(ch ssh.Channel, requests <-chan *ssh.Request) {
	defer ch.Close()
	late := time.AfterFunc(subsystemTime, func() { _ = ch.Close() })
	defer late.Stop()
	for r := range requests {
		var name struct{ Name string }
		is := r.Type == "subsystem" && ssh.Unmarshal(r.Payload, &name) == nil && name.Name == "sftp"
		if r.WantReply {
			_ = r.Reply(is, nil)
		}
		if !is {
			continue
		}
		late.Stop()
		closed := make(chan struct{})
		go func() { defer close(closed); ssh.DiscardRequests(requests) }()
		if err := g.speak(ch); err != nil {
			g.log().Info("a client has not ended well", "error", err)
		}
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
		_ = ch.Close()
		<-closed
		return
	}
}

// active says that the client has asked for something, or has taken a reply.
func (g *guest) active() { g.asked.Store(g.line.clock()) }

// busy calls what calls the node.
func (g *guest) busy(call func()) {
	g.working.Add(1)
	defer func() { g.active(); g.working.Add(-1) }()
	call()
}

// begin counts a request, or something that is opened.
func (g *guest) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left++
}

// end ends the counting. The last one ends a connection that is to end.
func (g *guest) end() {
	g.mu.Lock()
	g.left--
	last := g.draining && g.left == 0
	g.mu.Unlock()
	if last {
		_ = g.line.Close()
	}
}

// drain has the connection end when nothing is left to do.
func (g *guest) drain() {
	g.mu.Lock()
	g.draining = true
	last := g.left == 0
	g.mu.Unlock()
	if last {
		_ = g.line.Close()
	}
}

// mayBegin says whether something may be opened.
func (g *guest) mayBegin() error {
	if g.v.ctx.Err() != nil {
		return fault.New("open", fault.Draining, "this server is being stopped")
	}
	return nil
}
