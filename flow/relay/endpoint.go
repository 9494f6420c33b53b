package relay

import (
	"encoding/json"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pannier/pannier/spec/fault"
)

// Limits of an endpoint, in bytes or elements.
const (
	MaxEndpoint = 4096 // as text
	MaxArgs     = 64   // of exec
	MaxPorts    = 1024 // of one endpoint
	maxPath     = 103  // of a unix socket: the least any system takes, with its final NUL
)

// Scheme is the sort of an endpoint.
type Scheme string

const (
	TCP    Scheme = "tcp"    // tcp://HOST:PORTS
	UDP    Scheme = "udp"    // udp://HOST:PORTS
	Unix   Scheme = "unix"   // unix:///PATH
	Exec   Scheme = "exec"   // exec:["/PROGRAM", "ARGUMENT", ...]; a destination
	SOCKS5 Scheme = "socks5" // socks5://HOST:PORTS; to accept: the client says where to
	HTTP   Scheme = "http"   // http://HOST:PORTS; the same with CONNECT
	FTP    Scheme = "ftp"    // ftp://HOST:PORT; a destination, with its data connections
)

// PortRange is First to Last, both included.
type PortRange struct{ First, Last uint16 }

func (r PortRange) has(port uint16) bool { return r.First <= port && port <= r.Last }

func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return strconv.Itoa(int(r.First)) + "-" + strconv.Itoa(int(r.Last))
}

// Endpoint is where a relay accepts or where it leads to. Make one with
// ParseAccept or ParseTo.
type Endpoint struct {
	Scheme Scheme
	Host   string      // address without brackets, or name; "" to accept on every address
	Ports  []PortRange // to accept at; of a destination the one port, unless Same
	Same   bool        // destination: has {port}, the port that the connection was accepted at
	Path   string      // of a unix socket
	Argv   []string    // of exec
}

// samePort is what stands for the accepted port in a destination.
const samePort = "{port}"

func badEndpoint(text, format string, args ...any) error {
	e := fault.New("parse endpoint", fault.Invalid, format, args...)
	e.Subject = text
	return e
}

// ParseAccept reads where a relay listens: tcp, udp, socks5 or http with a host
// that is an address, "localhost" or empty for all, and ports as 80, 8000-8009
// or 80,443,8000-8009 (0: any free one); or unix with an absolute path.
func ParseAccept(text string) (Endpoint, error) {
	e, ports, err := parse(text)
	if err != nil {
		return e, err
	}
	switch e.Scheme {
	case Exec:
		return e, badEndpoint(text, "a command cannot be listened at; use it as the destination")
	case Unix:
		if strings.Contains(e.Path, samePort) {
			return e, badEndpoint(text, "a unix socket is accepted at without a port, so there is no %s", fault.Shown(samePort))
		}
		return e, nil
	case FTP:
		return e, badEndpoint(text, "ftp is a destination; accept its clients at tcp://")
	}
	if e.Host == "localhost" {
		e.Host = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(e.Host); err != nil && e.Host != "" {
		return e, badEndpoint(text, "listen at an address of this host, as 127.0.0.1 or [::1], or at none for all; %q is a name", fault.Shown(e.Host))
	}
	if e.Ports, err = parsePorts(text, ports, MaxPorts); err != nil {
		return e, err
	}
	if zero := (PortRange{}); slices.Contains(e.Ports, zero) && len(e.Ports) > 1 {
		return e, badEndpoint(text, "port 0, any free one, stands alone")
	}
	return e, nil
}

// ParseTo reads a destination: tcp, udp or ftp with a host and one port or {port}, unix
// with an absolute path, or exec with a JSON array of program and arguments; {port} may
// be anywhere in the path and in the words.
func ParseTo(text string) (Endpoint, error) {
	e, ports, err := parse(text)
	if err != nil {
		return e, err
	}
	switch e.Scheme {
	case SOCKS5, HTTP:
		return e, badEndpoint(text, "%s is what a relay accepts; its clients say where to", fault.Shown(e.Scheme))
	case Unix:
		e.Same = strings.Contains(e.Path, samePort)
		return e, nil
	case Exec:
		e.Same = hasSamePort(e.Argv)
		return e, nil
	}
	if e.Host == "" {
		return e, badEndpoint(text, "no host to connect to")
	}
	if ports == samePort {
		e.Same = true
		return e, nil
	}
	if e.Ports, err = parsePorts(text, ports, MaxPorts); err != nil {
		return e, err
	}
	if len(e.Ports) != 1 || e.Ports[0].First != e.Ports[0].Last || e.Ports[0].First == 0 {
		return e, badEndpoint(text, "a destination has one port from 1 to 65535, or %s for the one that was accepted at", fault.Shown(samePort))
	}
	return e, nil
}

// parse reads everything but the ports.
func parse(text string) (e Endpoint, ports string, err error) {
	if len(text) > MaxEndpoint || !utf8.ValidString(text) {
		return e, "", badEndpoint(text[:min(len(text), 64)], "%d bytes; an endpoint is UTF-8 of at most %d", len(text), MaxEndpoint)
	}
	scheme, rest, ok := strings.Cut(text, ":")
	if !ok {
		return e, "", badEndpoint(text, "no scheme; write tcp://, udp://, unix://, ftp://, exec:, socks5:// or http://")
	}
	e.Scheme = Scheme(scheme)
	if e.Scheme == Exec {
		e.Argv, err = parseArgv(text, rest)
		return e, "", err
	}
	rest, ok = strings.CutPrefix(rest, "//")
	switch e.Scheme {
	case TCP, UDP, FTP, SOCKS5, HTTP:
		if !ok {
			return e, "", badEndpoint(text, "write %s://HOST:PORT", fault.Shown(scheme))
		}
		e.Host, ports, err = splitHost(text, rest)
	case Unix:
		e.Path = rest
		if !ok || !filepath.IsAbs(rest) || filepath.Clean(rest) != rest || len(rest) > maxPath || strings.ContainsRune(rest, 0) {
			err = badEndpoint(text, "write unix:///PATH with a clean absolute path of at most %d bytes", maxPath)
		}
	default:
		err = badEndpoint(text, "unknown scheme %q; write tcp://, udp://, unix://, ftp://, exec:, socks5:// or http://", fault.Shown(scheme))
	}
	return e, ports, err
}

// splitHost separates HOST:PORTS.
func splitHost(text, s string) (host, ports string, err error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", badEndpoint(text, "no port")
	}
	host, ports = s[:i], s[i+1:]
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if host, ok = strings.CutSuffix(inner, "]"); !ok || !strings.Contains(host, ":") {
			return "", "", badEndpoint(text, "brackets are for IPv6 addresses")
		}
		return host, ports, nil
	}
	if strings.Contains(host, ":") {
		return "", "", badEndpoint(text, "put the IPv6 address into brackets")
	}
	if strings.ContainsAny(host, "/?#@ \t\r\n\x00") || len(host) > 253 {
		return "", "", badEndpoint(text, "that is no host")
	}
	return host, ports, nil
}

// parsePorts reads a list of ports and ranges.
func parsePorts(text, s string, most int) ([]PortRange, error) {
	var all []PortRange
	total := 0
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || b < a || isRange && a == 0 {
			return nil, badEndpoint(text, "%q is no port; write 80, 8000-8009 or 80,443", fault.Shown(part))
		}
		if total += int(b-a) + 1; total > most {
			return nil, badEndpoint(text, "more than %d ports", most)
		}
		all = append(all, PortRange{uint16(a), uint16(b)})
	}
	return all, nil
}

func parseArgv(text, s string) ([]string, error) {
	var argv []string
	if err := json.Unmarshal([]byte(s), &argv); err != nil {
		return nil, badEndpoint(text, `write exec:["/PROGRAM", "ARGUMENT"]: %w`, err)
	}
	if len(argv) == 0 || len(argv) > MaxArgs || !filepath.IsAbs(argv[0]) {
		return nil, badEndpoint(text, "a command has 1 to %d words, and its first is the absolute path of the program", MaxArgs)
	}
	for _, a := range argv {
		if strings.ContainsRune(a, 0) {
			return nil, badEndpoint(text, "a NUL in an argument")
		}
	}
	return argv, nil
}

// String is the endpoint as it is parsed.
func (e Endpoint) String() string {
	switch e.Scheme {
	case "":
		return ""
	case Unix:
		return "unix://" + e.Path
	case Exec:
		b, _ := json.Marshal(e.Argv) // strings always can be
		return "exec:" + string(b)
	}
	ports := samePort
	if !e.Same {
		list := make([]string, len(e.Ports))
		for i, r := range e.Ports {
			list[i] = r.String()
		}
		ports = strings.Join(list, ",")
	}
	return string(e.Scheme) + "://" + net.JoinHostPort(e.Host, ports)
}

// IsZero reports whether there is no endpoint.
func (e Endpoint) IsZero() bool { return e.Scheme == "" }

// hasSamePort reports whether one of the words of a command has {port}.
func hasSamePort(argv []string) bool {
	return slices.ContainsFunc(argv, func(word string) bool { return strings.Contains(word, samePort) })
}

// at is the destination of a connection that was accepted at a port, with that in place of
// {port}. It is shorter, and digits: what a destination is remains.
func (e Endpoint) at(port uint16) Endpoint {
	if !e.Same {
		return e
	}
	e.Same = false
	number := strconv.Itoa(int(port))
	switch e.Scheme {
	case Unix:
		e.Path = strings.ReplaceAll(e.Path, samePort, number)
	case Exec:
		e.Argv = slices.Clone(e.Argv)
		for i, word := range e.Argv {
			e.Argv[i] = strings.ReplaceAll(word, samePort, number)
		}
	default:
		e.Ports = []PortRange{{port, port}}
	}
	return e
}

// port is the one port of a destination.
func (e Endpoint) port() uint16 {
	if len(e.Ports) == 0 {
		return 0
	}
	return e.Ports[0].First
}

// takes reports whether an endpoint to accept at has this port.
func (e Endpoint) takes(port uint16) bool {
	return slices.ContainsFunc(e.Ports, func(r PortRange) bool { return r.has(port) || r == PortRange{} })
}

// portsOf is how many places are listened at for a list.
func portsOf(accept []Endpoint) int {
	n := 0
	for _, e := range accept {
		if e.Scheme == Unix {
			n++
		}
		for _, r := range e.Ports {
			n += int(r.Last-r.First) + 1
		}
	}
	return n
}

// each calls f with every port in turn.
func (e Endpoint) each(f func(port uint16) error) error {
	for _, r := range e.Ports {
		for p := int(r.First); p <= int(r.Last); p++ {
			if err := f(uint16(p)); err != nil {
				return err
			}
		}
	}
	return nil
}

// datagrams reports whether it is about datagrams and not streams.
func (e Endpoint) datagrams() bool { return e.Scheme == UDP }

// asks reports whether clients say where they want to go.
func (e Endpoint) asks() bool { return e.Scheme == SOCKS5 || e.Scheme == HTTP }
