package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/spec/fault"
)

// Where the node listens, and what it proves itself and others with there.

// soon is how long before an end somebody should know.
const soon = 14 * 24 * time.Hour

// place is where something of the configuration listens.
type place struct{ whose, network, at string }

// places are all of them, in the order of the configuration's sections.
func (e *exam) places() (all []place, err error) {
	cfg := e.Config
	add := func(whose string, addresses ...string) {
		for _, text := range addresses {
			a, wrong := carrier.ParseAddress(text)
			switch {
			case wrong != nil:
				err = errors.Join(err, wrong)
			case a.Scheme == carrier.Unix:
				all = append(all, place{whose, "unix", a.Path})
			case a.Scheme == carrier.TCP || a.Scheme == carrier.TLS:
				all = append(all, place{whose, "tcp", net.JoinHostPort(a.Host, a.Port)})
			}
		}
	}
	add("node.listen", cfg.Node.Listen...)
	if cfg.Node.Admin != "" {
		add("node.admin", cfg.Node.Admin)
	}
	add("http.listen", cfg.HTTP.Listen...)
	for _, l := range cfg.Listeners {
		all = append(all, place{"listener", "tcp", l.Address})
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Relays)) {
		if r := cfg.Relays[name]; r.At == relay.Here {
			for _, a := range r.Accept {
				all = append(all, accepts("relay "+name, a)...)
			}
		}
	}
	return all, err
}

// accepts are the places of a relay's endpoint: of a range of ports, the first and the last.
func accepts(whose string, a relay.Endpoint) (all []place) {
	network := "tcp"
	switch a.Scheme {
	case relay.Unix:
		return []place{{whose, "unix", a.Path}}
	case relay.UDP:
		network = "udp"
	}
	for _, r := range a.Ports {
		for _, port := range slices.Compact([]uint16{r.First, r.Last}) {
			all = append(all, place{whose, network, net.JoinHostPort(a.Host, strconv.Itoa(int(port)))})
		}
	}
	return all
}

// addresses tries to listen where no daemon does.
func (e *exam) addresses() {
	all, err := e.places()
	if err != nil {
		e.fail("", "pannier config check", "%s", fault.Plain(err))
	}
	for _, p := range all {
		subject := p.whose + " " + p.at
		if e.Daemon != nil {
			e.skip(subject, "the daemon has it")
			continue
		}
		switch err := p.try(e.Config.Node.State); {
		case errors.Is(err, syscall.EADDRINUSE):
			e.fail(subject, "end the other process, or set another address", "another process listens there, and no daemon answers at node.admin")
		case errors.Is(err, fs.ErrPermission):
			e.fail(subject, "let the node's user do so; for ports below 1024 set AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit", "%s may not listen there: %v", userName(os.Getuid()), err)
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			e.fail(subject, "set an address of this host, or none in front of the port", "this host does not have that address")
		case err != nil:
			e.fail(subject, "set another address", "nothing can listen there: %v", err)
		default:
			e.ok(subject, "it is free")
		}
	}
}

// try listens for a moment. Of a unix socket the name is only looked at; one in a state
// directory that is not there yet gets a place with it.
func (p place) try(state string) error {
	switch p.network {
	case "udp":
		c, err := net.ListenPacket(p.network, p.at)
		if err != nil {
			return err
		}
		return c.Close()
	case "tcp":
		l, err := net.Listen(p.network, p.at)
		if err != nil {
			return err
		}
		return l.Close()
	}
	dir := filepath.Dir(p.at)
	if fi, err := os.Lstat(p.at); err == nil && fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there, and is no socket", p.at)
	}
	if c, err := net.DialTimeout("unix", p.at, time.Second); err == nil {
		return errors.Join(syscall.EADDRINUSE, c.Close())
	}
	err := unix.Access(dir, unix.W_OK|unix.X_OK)
	switch missing := errors.Is(err, fs.ErrNotExist); {
	case missing && dir == state:
		return nil
	case missing:
		return fmt.Errorf("there is no directory %s", dir)
	}
	return err
}

// certificate is the one of the [http] section.
func (e *exam) certificate() {
	cfg := &e.Config.HTTP
	if cfg.Certificate == "" {
		return // the node's own does not end
	}
	get, err := httpd.Files(cfg.Certificate, cfg.Key)
	if err != nil {
		e.fail(cfg.Certificate, "give http.certificate and http.key files that belong together, for the node's user", "the node does not start: %s", fault.Plain(err))
		return
	}
	c, err := get(nil)
	if err != nil || c.Leaf == nil {
		e.fail(cfg.Certificate, "look at http.certificate", "it cannot be read: %v", err)
		return
	}
	e.ends(cfg.Certificate, "renew it: new files are taken without a restart", c.Leaf.NotAfter)
	if now := e.Now(); now.Before(c.Leaf.NotBefore) {
		e.fail(cfg.Certificate, "look at this host's clock", "it begins only on %s", c.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
}

// ends says when something is over.
func (e *exam) ends(subject, do string, at time.Time) {
	when := at.UTC().Format(time.RFC3339)
	switch left := at.Sub(e.Now()); {
	case left <= 0:
		e.fail(subject, do, "it has ended on %s", when)
	case left < soon:
		e.warn(subject, do, "it ends on %s", when)
	default:
		e.ok(subject, "it ends on %s", when)
	}
}

// tokens are those of programs elsewhere. One that has ended is a warning only: it is
// refused, as it should be.
func (e *exam) tokens() {
	path := node.TokensPath(e.Config.Node.State)
	_, before, err := access.OpenTokens(path, slog.New(slog.DiscardHandler))
	if err != nil {
		e.fail(path, "restore it, or remove it, which forgets when tokens were used", "the node does not start: %s", fault.Plain(err))
		return
	}
	all := slices.Clone(e.Config.Tokens)
	for _, one := range before {
		all = append(all, one.Token)
	}
	for _, one := range all {
		subject := "token " + one.Name
		switch {
		case one.Expires.IsZero():
			e.ok(subject, "it does not end")
		case one.Expires.After(e.Now()):
			e.ends(subject, "make its user a new one: pannier token create", one.Expires)
		default:
			e.warn(subject, "pannier token delete "+one.Name, "it has ended on %s, and is refused", one.Expires.UTC().Format(time.RFC3339))
		}
	}
}
