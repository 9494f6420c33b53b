package relay

import (
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// Pattern is a set of endpoints: tcp://HOST:PORTS, udp://HOST:PORTS or ftp://HOST:PORTS, where HOST
// is an address, a prefix (10.0.0.0/8, [fd00::/8]), a name, *.NAME or *, and PORTS a list
// as in an endpoint or *; unix:///PATH or unix:///DIR/*; exec:[...], the very same command.
//
// Addresses of the host itself, its link and metadata services are in it only if
// HOST is such an address or a prefix of nothing else.
type Pattern struct {
	scheme Scheme
	prefix netip.Prefix // valid: addresses
	name   string       // "*", "*.NAME" or a name in lower case
	ports  []PortRange  // none: all
	path   string
	argv   []string
}

// ParsePattern reads a pattern.
func ParsePattern(text string) (Pattern, error) {
	e, ports, err := parsePattern(text)
	if err != nil {
		return Pattern{}, err
	}
	p := Pattern{scheme: e.Scheme, path: e.Path, argv: e.Argv}
	switch e.Scheme {
	case Unix, Exec:
		if strings.Contains(p.path, samePort) || hasSamePort(p.argv) {
			return p, badEndpoint(text, "a pattern is held against the port itself, never against %s: write each one, or unix:///DIR/*", fault.Shown(samePort))
		}
		if strings.Contains(strings.TrimSuffix(p.path, "/*"), "*") {
			return p, badEndpoint(text, "a star stands for a name in a directory, as unix:///DIR/*, and nowhere else")
		}
		return p, nil
	case TCP, UDP, FTP:
	default:
		return p, badEndpoint(text, "a pattern is of tcp, udp, ftp, unix or exec")
	}
	if ports != "*" {
		if p.ports, err = parsePorts(text, ports, 1<<16); err != nil {
			return p, err
		}
	}
	if a, err := netip.ParseAddr(e.Host); err == nil {
		a = plain(a)
		p.prefix = netip.PrefixFrom(a, a.BitLen())
		return p, nil
	}
	if x, err := netip.ParsePrefix(e.Host); err == nil {
		if p.prefix = x.Masked(); p.prefix != x {
			return p, badEndpoint(text, "%s has bits behind its prefix: write %s for all of it", fault.Shown(x.String()), fault.Shown(p.prefix.String()))
		}
		return p, nil
	}
	if isLocalhost(e.Host) {
		return p, badEndpoint(text, "an address of this host is reached only where it is named as one: write 127.0.0.1 or [::1]")
	}
	p.name = strings.ToLower(strings.TrimSuffix(e.Host, "."))
	if p.name == "" || strings.Contains(strings.TrimPrefix(p.name, "*"), "*") || p.name != "*" && p.name[0] == '*' && !strings.HasPrefix(p.name, "*.") {
		return p, badEndpoint(text, "the host of a pattern is an address, a prefix, a name, *.NAME or *")
	}
	return p, nil
}

// parsePattern is parse for a host that may be a prefix.
func parsePattern(text string) (Endpoint, string, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	if s := Scheme(scheme); (s == TCP || s == UDP || s == FTP) && len(text) <= MaxEndpoint {
		if i := strings.LastIndexByte(rest, ':'); i > 0 {
			host := strings.TrimSuffix(strings.TrimPrefix(rest[:i], "["), "]")
			if _, err := netip.ParsePrefix(host); err == nil {
				return Endpoint{Scheme: s, Host: host}, rest[i+1:], nil
			}
		}
	}
	return parse(text)
}

// patternOf is the pattern of the one destination that somebody has configured, of whatever port.
func patternOf(e Endpoint) Pattern {
	p := Pattern{scheme: e.Scheme, path: e.Path, argv: e.Argv}
	if a, err := netip.ParseAddr(e.Host); err == nil {
		a = plain(a)
		p.prefix = netip.PrefixFrom(a, a.BitLen())
	} else {
		p.name = strings.ToLower(strings.TrimSuffix(e.Host, "."))
	}
	return p
}

func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// may reports whether a destination can be in the pattern, as far as is known
// before its name has been resolved.
func (p Pattern) may(e Endpoint) bool {
	if p.scheme != e.Scheme {
		return false
	}
	switch e.Scheme {
	case Unix:
		if dir, ok := strings.CutSuffix(p.path, "/*"); ok {
			return path.Dir(e.Path) == dir
		}
		return p.path == e.Path
	case Exec:
		return slices.Equal(p.argv, e.Argv)
	}
	if len(p.ports) > 0 && !slices.ContainsFunc(p.ports, func(r PortRange) bool { return r.has(e.port()) }) {
		return false
	}
	return p.prefix.IsValid() || p.named(e.Host)
}

// named reports whether a name is one of the pattern's.
func (p Pattern) named(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if p.name == "*" {
		return true
	}
	if parent, ok := strings.CutPrefix(p.name, "*"); ok {
		return strings.HasSuffix(host, parent)
	}
	return p.name != "" && p.name == host
}

// has reports whether an address that a destination's host stands for is in the
// pattern, of which may holds for the destination.
func (p Pattern) has(host string, a netip.Addr) bool {
	a = plain(a)
	if p.prefix.IsValid() {
		return p.prefix.Contains(a) && (!isSpecial(a) || allSpecial(p.prefix))
	}
	return p.named(host) && !isSpecial(a)
}

// listens reports whether a place to listen at is in the pattern. All addresses
// are in * only.
func (p Pattern) listens(e Endpoint, port uint16) bool {
	scheme := e.Scheme
	if e.asks() {
		scheme = TCP
	}
	if p.scheme != scheme {
		return false
	}
	if e.Scheme == Unix {
		return p.may(e)
	}
	if len(p.ports) > 0 && !slices.ContainsFunc(p.ports, func(r PortRange) bool { return r.has(port) }) {
		return false
	}
	if p.name == "*" {
		return true
	}
	a, err := netip.ParseAddr(e.Host)
	return err == nil && p.prefix.IsValid() && p.prefix.Contains(plain(a))
}

// parsePatterns reads a list.
func parsePatterns(texts []string) ([]Pattern, error) {
	all := make([]Pattern, len(texts))
	for i, t := range texts {
		var err error
		if all[i], err = ParsePattern(t); err != nil {
			return nil, fault.Wrap("parse pattern", t, err)
		}
	}
	return all, nil
}
