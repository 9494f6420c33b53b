package main

import (
	"encoding/json"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// target is a file of a server, as HOST:PATH names it.
type target struct {
	text    string // as it was given
	address carrier.Address
	path    relpath.Path
}

// How hosts begin that are no hosts.
const (
	unixPrefix = "unix:"
	fifoPrefix = carrier.FIFO + "://"
	ttyPrefix  = carrier.TTY + "://"
	execPrefix = carrier.Exec + ":["
)

// targetText is the grammar, for help texts.
const targetText = `HOST:PATH names a file of a server. PATH is below the server's --root, as "a/b". HOST is
  example.org            the default port is ` + carrier.DefaultPort + `
  example.org:7000       digits between two colons are a port
  [2001:db8::1]          IPv6 in brackets, a port behind them
  tls://example.org:7000 as serve prints its address
  unix:/run/rcat.sock    a socket of this machine, without colons in its name
  exec:["ssh","b","rcat","serve","--root","/srv","--allow-any","--listen","stdio:"]
                         a command that is the connection; there is no shell
  fifo:///run/in,/run/out, tty:///dev/ttyS0?baud=115200
                         what this end reads and writes`

// plainFlags say whether tcp takes the place of tls, and how far it may lead.
type plainFlags struct{ here, anywhere bool }

func (p *plainFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&p.here, "plain", false, "tcp without encryption and keys, on this machine only")
	flags.BoolVar(&p.anywhere, "insecure-plaintext", false, "likewise, but from and to anywhere: everyone on the way can read and change what passes")
}

func (p plainFlags) given() bool { return p.here || p.anywhere }

// parseTarget reads HOST:PATH. plain says tcp instead of tls. Errors are
// fault.Invalid (or TooLong) and say what to write.
func parseTarget(text string, plain plainFlags) (target, error) {
	host, path, ok := splitTarget(text)
	if !ok {
		e := fault.New("read target", fault.Invalid, "it is not HOST:PATH, as example.org:a/b or unix:/run/rcat.sock:a/b")
		e.Subject = text
		return target{}, e
	}
	a, err := parseHost(host, plain)
	if err != nil {
		return target{}, err
	}
	p, err := relpath.Parse(path)
	if err != nil {
		return target{}, fault.Wrap("read target", text, err)
	}
	return target{text: text, address: a, path: p}, nil
}

// splitTarget finds the colon between HOST and PATH.
func splitTarget(text string) (host, path string, ok bool) {
	for _, prefix := range []string{unixPrefix, fifoPrefix, ttyPrefix} {
		if rest, is := strings.CutPrefix(text, prefix); is {
			host, path, ok = strings.Cut(rest, ":")
			return prefix + host, path, ok
		}
	}
	for _, prefix := range []string{carrier.TLS + "://", carrier.TCP + "://"} { // as serve prints its address
		if rest, is := strings.CutPrefix(text, prefix); is {
			host, path, ok = splitHost(rest)
			return prefix + host, path, ok
		}
	}
	if strings.HasPrefix(text, execPrefix) {
		rest := strings.TrimPrefix(text, carrier.Exec+":")
		d := json.NewDecoder(strings.NewReader(rest))
		if err := d.Decode(new([]string)); err != nil {
			return "", "", false
		}
		at := int(d.InputOffset())
		path, ok = strings.CutPrefix(rest[at:], ":")
		return carrier.Exec + ":" + rest[:at], path, ok
	}
	return splitHost(text)
}

// splitHost is splitTarget for a host that is one.
func splitHost(text string) (host, path string, ok bool) {
	at := 0
	if strings.HasPrefix(text, "[") {
		if at = strings.IndexByte(text, ']'); at < 0 {
			return "", "", false
		}
	}
	colon := strings.IndexByte(text[at:], ':')
	if colon < 0 {
		return "", "", false
	}
	host, path = text[:at+colon], text[at+colon+1:]
	if port, rest, is := strings.Cut(path, ":"); is && port != "" && strings.Trim(port, "0123456789") == "" {
		host, path = host+":"+port, rest
	}
	return host, path, true
}

// parseHost reads HOST, which is also what --listen takes.
func parseHost(host string, plain plainFlags) (carrier.Address, error) {
	if socket, is := strings.CutPrefix(host, unixPrefix); is {
		return carrier.ParseAddress("unix://" + strings.TrimPrefix(socket, "//"))
	}
	for _, prefix := range []string{fifoPrefix, ttyPrefix, execPrefix} {
		if strings.HasPrefix(host, prefix) {
			return parsePipe(host, plain)
		}
	}
	if host == carrier.Stdio+":" {
		return parsePipe(host, plain)
	}
	scheme := carrier.TLS
	if plain.given() {
		scheme = carrier.TCP
	}
	a, err := carrier.ParseAddress(scheme + "://" + strings.TrimPrefix(host, scheme+"://"))
	if err == nil && plain.given() && !plain.anywhere && !loopback(a.Host) {
		err := fault.New("read address", fault.Invalid, "--plain encrypts and proves nothing, so it is for 127.0.0.1, [::1] and localhost only, not %q", a.Host)
		return a, command.Suggest(err, "Leave it out. In a network where everyone may read and change everything, write --insecure-plaintext instead.")
	}
	return a, err
}

// parsePipe reads an address of one pipe.
func parsePipe(text string, plain plainFlags) (carrier.Address, error) {
	if plain.given() {
		text = "plain+" + text
	}
	a, err := carrier.ParseAddress(text)
	if err == nil && plain.given() && !plain.anywhere && a.Scheme != carrier.FIFO {
		err := fault.New("read address", fault.Invalid, "--plain encrypts and proves nothing, so of pipes it is for FIFOs only, not %q", text)
		return a, command.Suggest(err, "Leave it out. Where everyone at the other end may read and change everything, write --insecure-plaintext instead.")
	}
	return a, err
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
