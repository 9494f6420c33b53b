package relay

// The control connection of a relay to FTP, at either end. What it lets through is what
// ftpdata.go then connects.

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// ftp is one end of a control connection. Both ends read every line, each for itself: the
// one that a data connection comes to opens a stream, the other connects to what it has
// itself read here, and to nothing else.
//
//	PASV, EPSV: client --> entry, which has rewritten the reply == exit, which has read it --> server
//	PORT, EPRT: client <-- entry, which has read the command == exit, which has rewritten it <-- server
type ftp struct {
	c     *conn
	id    uint64     // the exit's choice; both ends know it
	ask   connAsk    // exit: with which it was asked for
	here  netip.Addr // of this end's socket
	there netip.Addr // of the client or the server

	live atomic.Int64 // data connections

	mu      sync.Mutex // held while lines go to the client: they come whole and in order
	room    sync.Cond  // of pending
	pending []ftpPending
	over    bool

	ports sync.Mutex // guards what is below
	offer ftpOffer
	gate  ftpGate
}

// ftpPending is a command whose reply has not come.
type ftpPending struct {
	verb    string
	passive bool
	answer  string // the relay's own, when its turn comes; "": the server's
}

// ftpOffer is a port that was read on the control connection: the other end may have one
// connection made to it.
type ftpOffer struct {
	port  uint16 // 0: none
	until time.Time
}

// ftpGate is the listener for a data connection that was opened last.
type ftpGate struct {
	close   context.CancelFunc // nil: there was none
	settled chan struct{}      // closed when the other end has connected, too, or nobody will
}

const (
	// maxFTPPending is how many commands may be without a reply; no more are read.
	maxFTPPending = 1024
	// dataWait is how long a data connection may take to come.
	dataWait = time.Minute
)

// speakFTP makes a connection the control connection of FTP with that id.
func (c *conn) speakFTP(id uint64, ask connAsk) error {
	f := &ftp{c: c, id: id, ask: ask, pending: []ftpPending{{verb: "greeting"}}}
	f.room.L = &f.mu
	var err error
	if f.here, err = addressOf(c.local.LocalAddr()); err == nil {
		f.there, err = addressOf(c.local.RemoteAddr())
	}
	if err == nil {
		err = c.hub.controls.add(f)
	}
	if err != nil {
		return err
	}
	inlineUrgent(c.local)
	c.ftp, c.after = f, func() { c.hub.controls.remove(f) }
	return nil
}

// inlineUrgent keeps the mark of a Synch in the line, where the client has put it.
func inlineUrgent(c any) {
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_OOBINLINE, 1) })
		}
	}
}

// isFTP makes a connection of an entry what the exit's answer says, if that fits to what
// the relay says.
func (c *conn) isFTP(to Endpoint, answer connAnswer) error {
	switch {
	case answer.Control == 0 && to.Scheme != FTP:
		return nil
	case !to.IsZero() && (answer.Control == 0) == (to.Scheme == FTP):
		return fault.New("relay FTP", fault.Protocol, "the partner has another opinion on whether it is FTP")
	}
	return c.speakFTP(answer.Control, connAsk{})
}

// busy reports whether a control connection has data connections, during which nothing is said.
func (f *ftp) busy() bool { return f != nil && f.live.Load() > 0 }

// into carries what is read from the socket into the session.
func (f *ftp) into(local io.Reader) error {
	if f.c.role == Entry {
		return f.commands(local, f.c.st, f.c.local)
	}
	return f.replies(local, f.c.st)
}

// outOf carries what comes out of the session to the socket.
func (f *ftp) outOf(local io.Writer) error {
	if f.c.role == Entry {
		return f.replies(f.c.st, local)
	}
	return f.commands(f.c.st, local, f.c.st)
}

// commands carries the client's lines to the server. back leads to the client.
func (f *ftp) commands(from io.Reader, to, back io.Writer) error {
	defer context.AfterFunc(f.c.ctx, f.finish)()
	for lines := newFTPLines(from); ; {
		line, err := lines.next()
		if err == io.EOF {
			return nil
		}
		var text, answer string
		var c ftpCommand
		if err == nil {
			c, err = parseFTPCommand(line)
		}
		switch {
		case err == nil:
			text, answer = f.command(c)
		case fault.KindOf(err) == fault.Invalid || err == errLongLine:
			answer = "501 That is not relayed: " + reason(err) + "."
		default:
			return err
		}
		p := ftpPending{verb: c.verb, passive: c.passive(), answer: answer}
		if err := f.expect(p, back); err != nil {
			return err
		}
		if answer == "" {
			if _, err := io.WriteString(to, text); err != nil {
				return err
			}
		}
	}
}

// reason is what went wrong, without what was being done.
func reason(err error) string {
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}
	return err.Error()
}

// command is the line that goes to the server, or the answer that the client has instead.
func (f *ftp) command(c ftpCommand) (text, answer string) {
	if answer = ftpRefused[c.verb]; answer != "" {
		return "", answer
	}
	switch c.verb {
	case "PORT", "EPRT":
		return f.active(c)
	case "EPSV":
		if f.c.role == Entry && (c.arg == "1" || c.arg == "2") && c.arg != ftpFamily(f.there) {
			return "", "522 Network protocol not supported, use (" + ftpFamily(f.there) + ")"
		}
		if !c.isEPSVAll() {
			return "EPSV\r\n", "" // the family is each end's own
		}
	case "PASV":
		if f.c.role == Exit && !f.here.Is4() {
			return "EPSV\r\n", "" // the entry knows what the client has asked
		}
	}
	return c.line(), ""
}

// active handles PORT and EPRT: the entry notes where the client wants to be connected to,
// the exit has the server connect to itself.
func (f *ftp) active(c ftpCommand) (text, answer string) {
	at, err := c.address()
	switch {
	case err != nil:
		return "", "501 " + reason(err) + "."
	case f.c.role == Exit:
		port, err := f.listen(at.Port())
		if err != nil {
			return "", "425 The relay cannot listen for the server: " + reason(err) + "."
		}
		return activeCommand(c.verb, netip.AddrPortFrom(f.here, port)), ""
	case at.Addr() != f.there.WithZone(""):
		return "", "500 The relay connects to the address that the control connection comes from, and to no other; use EPSV or PASV."
	case !mayCarry(at.Port()):
		return "", "500 The relay connects to no ports below 1024."
	}
	f.offers(at.Port())
	return c.line(), ""
}

// expect notes that a command is without a reply, or gives the client the relay's own
// answer as soon as the replies to what it has sent before have come.
func (f *ftp) expect(p ftpPending, back io.Writer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.pending) >= maxFTPPending && !f.over {
		f.room.Wait()
	}
	if f.over {
		return errStopping
	}
	if p.answer != "" && len(f.pending) == 0 {
		_, err := io.WriteString(back, p.answer+"\r\n")
		return err
	}
	f.pending = append(f.pending, p)
	return nil
}

// finish lets go who waits for room.
func (f *ftp) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	f.room.Broadcast()
}

// replies carries the server's lines to the client, and the relay's own answers in between.
func (f *ftp) replies(from io.Reader, to io.Writer) error {
	var r ftpReplies
	for lines := newFTPLines(from); ; {
		line, err := lines.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		code := r.next(line)
		if code == 0 && r.hidden(line) {
			continue
		}
		if f.c.role == Exit && max(code, r.open)/100 == 2 { // its first line says it already
			f.settle()
		}
		if err := f.reply(string(line)+"\r\n", code, to); err != nil {
			return err
		}
	}
}

// settle waits, before a transfer is said to be complete, until the client has been
// connected to for it: a client that waits for a connection takes the word for the end.
func (f *ftp) settle() {
	f.mu.Lock()
	over := len(f.pending) > 0 && slices.Contains(ftpTransfers, f.pending[0].verb)
	f.mu.Unlock()
	f.ports.Lock()
	settled := f.gate.settled
	f.ports.Unlock()
	if !over || settled == nil {
		return
	}
	select {
	case <-settled:
	case <-time.After(f.c.hub.cfg.Patience):
	case <-f.c.ctx.Done():
	}
}

// reply sends a line on, with what the client may know now after it.
func (f *ftp) reply(line string, code int, to io.Writer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if code >= 200 {
		verb, due, err := f.answered(code)
		if err != nil {
			return err
		}
		if code == ftpPassive || code == ftpExtended {
			line = f.passive(verb, code, line)
		}
		line += due
	}
	_, err := io.WriteString(to, line)
	return err
}

// answered takes the command out that a reply is about, and returns the relay's own answers
// whose turn it is then. f.mu is held.
func (f *ftp) answered(code int) (verb, due string, err error) {
	n := 0
	if code == ftpPassive || code == ftpExtended {
		// Whatever a server has left out or said twice before, this is about a PASV or EPSV.
		if n = slices.IndexFunc(f.pending, func(p ftpPending) bool { return p.passive }); n < 0 {
			return "", "", fault.New("relay FTP", fault.Protocol, "the server opens a port that nobody has asked for")
		}
	} else if len(f.pending) == 0 || f.pending[0].passive && code < 300 {
		return "", "", nil // one reply too many
	}
	verb = f.pending[n].verb
	for n++; n < len(f.pending) && f.pending[n].answer != ""; n++ {
	}
	for _, p := range f.pending[:n] {
		if p.answer != "" {
			due += p.answer + "\r\n"
		}
	}
	f.pending = slices.Delete(f.pending, 0, n)
	f.room.Broadcast()
	return verb, due, nil
}

// passive handles 227 and 229: the exit notes where the server waits, the entry has the
// client connect to itself.
func (f *ftp) passive(verb string, code int, line string) string {
	port, ok := passivePort(code, line)
	switch {
	case !ok:
		return "425 The relay does not understand where the server waits.\r\n"
	case !mayCarry(port):
		return "425 The relay connects to no ports below 1024.\r\n"
	case f.c.role == Exit:
		f.offers(port)
		return line
	case verb == "PASV" && !f.here.Is4():
		return "425 PASV has no room for the address of the relay; use EPSV.\r\n"
	}
	mine, err := f.listen(port)
	if err != nil {
		return "425 The relay cannot listen for the client: " + reason(err) + ".\r\n"
	}
	return passiveReply(verb, netip.AddrPortFrom(f.here, mine))
}
