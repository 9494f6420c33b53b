package carrier

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// Schemes of addresses.
const (
	TCP      = "tcp"  // plaintext TCP: proves nothing about the peer
	TLS      = "tls"  // TLS 1.3 over TCP: the peer proves its key
	Unix     = "unix" // unix stream socket: the kernel names the peer's user
	InMemory = "pipe" // Options.Pipe: both ends in one process

	// One connection at a time, with TLS 1.3 inside unless Address.Plain.
	FIFO  = "fifo"  // a FIFO for each direction, or a device for both
	Exec  = "exec"  // a command's stdin and stdout
	Stdio = "stdio" // this process's own stdin and stdout
	TTY   = "tty"   // a serial line or pseudo-terminal, made raw
)

// plainly in front of a scheme of one pipe says that there is no TLS inside.
const plainly = "plain+"

// DefaultPort is the port of tcp and tls addresses that name none.
const DefaultPort = "6610"

const (
	maxAddress  = 1024 // bytes of an address
	maxUnixPath = 107  // bytes of a socket path: sun_path is 108 with its NUL
)

// accepted is what every error about an address ends with.
const accepted = `accepted are "tcp://host[:port]", "tls://host[:port]" (default port ` + DefaultPort + `), "unix:///absolute/path", "pipe:", ` +
	`and over one pipe with tls inside "fifo:///in,/out", "fifo:///dev/both", "exec:[\"command\",\"argument\"]", "tty:///dev/name[?baud=N]", "stdio:" ("plain+" in front leaves tls out)`

// Address is where to dial or listen. Made by ParseAddress.
type Address struct {
	Scheme string // TCP, TLS, Unix, InMemory, FIFO, Exec, Stdio or TTY
	Host   string // of tcp and tls; without brackets; empty: all interfaces (listening only)
	Port   string // of tcp and tls; decimal, 0 to 65535
	Path   string // of unix, tty and fifo; absolute and clean. Of fifo: where this end reads

	Plain   bool   // of fifo, exec, stdio and tty: no TLS inside
	Out     string // of fifo: where this end writes; empty: Path is a device for both directions
	Command string // of exec: the argument vector as a JSON array of strings; see Argv
	Baud    int    // of tty: bits a second; 0: as the device is set
}

// Single reports whether only one connection can exist at a time.
func (a Address) Single() bool { return a.Scheme == InMemory || a.onePipe() }

// Proves reports whether peers prove their keys: tls, and single pipes unless
// they are plain.
func (a Address) Proves() bool { return a.Scheme == TLS || a.onePipe() && !a.Plain }

// ParseAddress reads an address. Errors are fault.Invalid (or TooLong) and say
// what is accepted.
func ParseAddress(text string) (Address, error) {
	if len(text) > maxAddress {
		return Address{}, fault.New("parse address", fault.TooLong, "%d bytes; at most %d", len(text), maxAddress)
	}
	if text == "pipe:" {
		return Address{Scheme: InMemory}, nil
	}
	if a, is, err := parseOnePipe(text); is {
		return a, err
	}
	scheme, rest, ok := strings.Cut(text, "://")
	switch {
	case ok && (scheme == TCP || scheme == TLS):
		return parseHostPort(text, scheme, rest)
	case ok && scheme == Unix:
		return parseUnix(text, rest)
	}
	return Address{}, badAddress(text, "no known scheme")
}

func parseHostPort(text, scheme, rest string) (Address, error) {
	a := Address{Scheme: scheme, Port: DefaultPort}
	switch host, port, err := net.SplitHostPort(rest); {
	case err == nil:
		a.Host, a.Port = host, port
	case strings.HasPrefix(rest, "[") && strings.HasSuffix(rest, "]"):
		a.Host = rest[1 : len(rest)-1]
	case !strings.Contains(rest, ":"):
		a.Host = rest
	default:
		return Address{}, badAddress(text, "host and port are not separable; write an IPv6 address in brackets")
	}
	if a.Host == "" && !strings.Contains(rest, ":") {
		return Address{}, badAddress(text, "no host")
	}
	if strings.ContainsFunc(a.Host, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`/?#@[]\`, r) }) {
		return Address{}, badAddress(text, "the host holds a character that hosts do not have")
	}
	n, err := strconv.ParseUint(a.Port, 10, 16)
	if err != nil {
		return Address{}, badAddress(text, "the port is not a number from 0 to 65535")
	}
	a.Port = strconv.FormatUint(n, 10)
	return a, nil
}

func parseUnix(text, path string) (Address, error) {
	switch {
	case !filepath.IsAbs(path):
		return Address{}, badAddress(text, "the path of a unix socket is absolute: three slashes")
	case len(path) > maxUnixPath:
		return Address{}, badAddress(text, "the path has more than 107 bytes, which no socket can have")
	case strings.ContainsRune(path, 0) || filepath.Clean(path) != path || path == "/":
		return Address{}, badAddress(text, "the path is not the plain name of a file")
	}
	return Address{Scheme: Unix, Path: path}, nil
}

func badAddress(text, why string) error {
	e := fault.New("parse address", fault.Invalid, "%s; %s", why, accepted)
	e.Subject = text
	return e
}

// String is the address as ParseAddress reads it.
func (a Address) String() string {
	switch a.Scheme {
	case TCP, TLS:
		return a.Scheme + "://" + net.JoinHostPort(a.Host, a.Port)
	case Unix:
		return "unix://" + a.Path
	case InMemory:
		return "pipe:"
	}
	return a.onePipeString()
}

// target is network and address as package net wants them.
func (a Address) target() (network, address string) {
	if a.Scheme == Unix {
		return "unix", a.Path
	}
	return "tcp", net.JoinHostPort(a.Host, a.Port)
}
