package ftpd

import (
	"context"
	"strings"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// userCommand says the same of every user, whether there is one or not.
func (c *client) userCommand(arg string) reply {
	switch {
	case c.session != nil:
		return say(503, "You are logged in.")
	case c.secure == nil && c.s.tls == "required":
		return say(530, "Say AUTH TLS first: passwords are not taken in clear here.")
	case !loginText(arg):
		return say(501, "This cannot be a user.")
	}
	c.user = arg
	return say(331, "The password, please.")
}

// loginText says whether a user or password can be one.
func loginText(s string) bool { return oneLine(s) == s }

// passCommand asks the node. Who is wrong waits, on each of his connections.
func (c *client) passCommand(arg string) reply {
	switch {
	case c.session != nil:
		return say(503, "You are logged in.")
	case c.user == "":
		return say(503, "The user comes first.")
	}
	user := c.user
	c.user = ""
	if !c.s.gate.try(c.peer) {
		c.over = true
		c.log.Warn("an address has had too many wrong passwords, and has to wait", "user", user)
		return say(421, "Too many wrong passwords came from your address. Wait for some minutes.")
	}
	began := time.Now()
	session, err := c.open(user, arg)
	wrong := err != nil && !passes(fault.KindOf(err))
	c.s.gate.tried(c.peer, !wrong)
	switch {
	case err == nil && !c.place.Known():
		_ = session.Close()
		c.over = true
		return reply{}
	case err == nil:
		c.user, c.session, c.can = user, session, session.Capabilities()
		c.log.Info("a client has logged in", "user", user, "tls", c.secure != nil)
		return say(230, "You are logged in.")
	case !wrong:
		c.log.Warn("a client cannot be let in now", "user", user, "error", err)
		c.over = true
		return say(421, "Nobody can be let in now; try later.")
	}
	c.log.Warn("a client was not let in", "user", user, "error", err)
	c.wrong++
	c.pause(time.Until(began.Add(c.s.delay << min(c.wrong-1, 6))))
	if c.wrong >= c.s.tries {
		c.over = true
		return say(421, "User or password is wrong, once too often.")
	}
	return say(530, "User or password is wrong.")
}

// open asks the node for a session.
func (c *client) open(user, password string) (plugins.Session, error) {
	if !loginText(password) {
		return nil, fault.New("ftp login", fault.Unauthenticated, "the password has control characters")
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.s.login)
	defer cancel()
	return c.s.node.Open(ctx, plugins.Endpoint{URL: "guest://" + c.raw.RemoteAddr().String(), User: user, Password: password})
}

// passes says whether a login has failed for what has nothing to do with who it was.
func passes(kind fault.Kind) bool {
	switch kind {
	case fault.Lost, fault.DeadPeer, fault.Deadline, fault.Overloaded, fault.Draining, fault.IO, fault.Canceled, fault.Internal:
		return true
	}
	return false
}

// pause waits, unless the client has to leave.
func (c *client) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.ctx.Done():
	case <-c.s.soft.Done():
	}
}

// authCommand begins TLS. Its reply is the last word in clear, and whatever the client has
// sent after the command, in clear, ends the connection: it would be taken for said within.
func (c *client) authCommand(arg string) reply {
	var bad *reply
	switch {
	case c.s.security == nil:
		bad = refuse(502, "There is no TLS here.")
	case c.secure != nil:
		bad = refuse(503, "This is TLS already.")
	case c.session != nil || c.user != "":
		bad = refuse(503, "AUTH comes before the login.")
	case !strings.EqualFold(arg, "TLS") && !strings.EqualFold(arg, "TLS-C") && !strings.EqualFold(arg, "SSL"):
		bad = refuse(504, "TLS is the only way.")
	}
	if bad != nil {
		if c.secure == nil {
			c.goOn()
		}
		return *bad
	}
	if c.r.Buffered() > 0 {
		c.log.Warn("a client has said something in clear after AUTH, or somebody else has")
		c.over = true
		return say(421, "Nothing may follow AUTH in clear.")
	}
	c.say(say(234, "Begin."))
	if !c.encrypt() {
		c.over = true
		return reply{}
	}
	c.goOn()
	return reply{}
}

// goOn has the reader go on after AUTH.
func (c *client) goOn() {
	select {
	case c.again <- struct{}{}:
	case <-c.ctx.Done():
	}
}

func (c *client) pbszCommand(arg string) reply {
	if c.secure == nil {
		return say(503, "AUTH comes first.")
	}
	if arg != "0" {
		return say(200, "PBSZ=0")
	}
	return say(200, "Good.")
}

func (c *client) protCommand(arg string) reply {
	switch strings.ToUpper(arg) {
	case "P":
		if c.secure == nil {
			return say(503, "AUTH comes first.")
		}
		c.prot = true
		return say(200, "Data connections are protected.")
	case "C":
		if c.secure != nil {
			return say(534, "Where commands are encrypted, files are: P only.")
		}
		return say(200, "Data connections are in clear.")
	case "S", "E":
		return say(536, "P is the only protection.")
	}
	return say(504, "P is the only protection.")
}
