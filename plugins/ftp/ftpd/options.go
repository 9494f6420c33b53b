package ftpd

import (
	"crypto/tls"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// Options are those of Serve.
func Options() []plugins.Option {
	return []plugins.Option{
		{Name: "tls", Help: "required, AUTH TLS comes before the login; optional; off; or implicit, TLS from the first byte.", Default: "required"},
		{Name: "cert", Help: "File with the certificate (PEM) and those between it and its authority; without one the server makes one, anew with each start."},
		{Name: "key", Help: "File with the certificate's private key (PEM); without it, cert has both."},
		{Name: "tls-reuse", Help: "required, a data connection continues the control connection's TLS session or is refused; or optional.", Default: "required"},
		{Name: "tls-close", Help: "required, an upload that ends without TLS's word of leave is cut off and refused; or optional.", Default: "required"},
		{Name: "settle", Help: "How long after the end of an unencrypted upload, beside four round trips, the client has to be still there.", Default: "500ms"},
		{Name: "passive-ports", Help: "Ports for data connections, as 50000-50999; without it any."},
		{Name: "passive-address", Help: "IPv4 address that PASV says, where clients reach this host by another than its own."},
		{Name: "active", Help: "on, PORT and EPRT connect to the client's own address; or off.", Default: "on"},
		{Name: "connections", Help: "How many clients there may be at a time, 1 to 100000.", Default: "500"},
		{Name: "connections-per-address", Help: "How many of one address, or one IPv6 network of 64 bits.", Default: "20"},
		{Name: "idle", Help: "How long a client may say nothing between two commands.", Default: "5m"},
		{Name: "timeout", Help: "How long a data connection may take to come, or be silent, and a client may take for a reply.", Default: "1m"},
		{Name: "login-timeout", Help: "How long a client has to log in.", Default: "30s"},
		{Name: "login-delay", Help: "How long a wrong password takes at least; twice that for the next.", Default: "1s"},
		{Name: "login-tries", Help: "How many wrong passwords end a connection.", Default: "3"},
		{Name: "login-failures", Help: "How many wrong passwords of one address in 10 minutes make it wait for their end.", Default: "20"},
		{Name: "max-entries", Help: "How many entries a listing may have.", Default: "100000"},
		{Name: "drain", Help: "How long transfers may go on when the server is stopped.", Default: "10s"},
	}
}

// config is the options, checked.
type config struct {
	tls              string // required, optional, off, implicit
	security         *tls.Config
	reuse, close     bool
	settle           time.Duration
	portMin, portMax int // 0: any
	external         netip.Addr
	active           bool
	most, each       int
	idle, timeout    time.Duration
	login, delay     time.Duration
	tries, failures  int
	entries          int
	drain            time.Duration
}

// what is whose options they are, for errors.
const what = "ftp server"

func badOption(name, format string, args ...any) error {
	return fault.New(what+" option "+name, fault.Invalid, format, args...)
}

// configure checks options, and reads the certificate.
func configure(options map[string]string) (*config, error) {
	c, o, err := read(options)
	if err == nil && c.tls != "off" {
		c.security, err = security(o.Text("cert"), o.Text("key"))
	}
	return c, err
}

// CheckOptions says what is wrong with options, as far as it can be seen without their files.
func CheckOptions(options map[string]string) error {
	_, _, err := read(options)
	return err
}

// read is configure without the files that options name.
func read(options map[string]string) (*config, *plugins.Values, error) {
	o := plugins.ReadOptions(what, Options(), options)
	c := &config{
		tls:   o.One("tls", "required", "optional", "off", "implicit"),
		reuse: o.One("tls-reuse", "required", "optional") == "required", close: o.One("tls-close", "required", "optional") == "required",
		active: o.One("active", "on", "off") == "on",
		most:   o.Number("connections", 100_000), each: o.Number("connections-per-address", 100_000), entries: o.Number("max-entries", 1e9),
		tries: o.Number("login-tries", 100), failures: o.Number("login-failures", 1e6),
		settle: o.Duration("settle", 0, time.Hour), idle: o.Duration("idle", time.Millisecond, time.Hour), timeout: o.Duration("timeout", time.Millisecond, time.Hour),
		login: o.Duration("login-timeout", time.Millisecond, time.Hour), delay: o.Duration("login-delay", 0, time.Hour), drain: o.Duration("drain", 0, time.Hour),
	}
	if o.Err() != nil {
		return nil, nil, o.Err()
	}
	if err := c.passive(o.Text("passive-ports"), o.Text("passive-address")); err != nil {
		return nil, nil, err
	}
	cert, key := o.Text("cert"), o.Text("key")
	switch {
	case c.tls == "off" && cert+key != "":
		return nil, nil, badOption("cert", "with tls=off there is no use for it")
	case cert == "" && key != "":
		return nil, nil, badOption("key", "there is no cert that it is of")
	}
	return c, o, nil
}

// passive checks where clients are told to connect to.
func (c *config) passive(ports, address string) (err error) {
	if ports != "" {
		low, high, ok := strings.Cut(ports, "-")
		c.portMin, err = strconv.Atoi(low)
		if err == nil {
			c.portMax, err = strconv.Atoi(high)
		}
		if err != nil || !ok || c.portMin < minPort || c.portMax < c.portMin || c.portMax > 65535 {
			return badOption("passive-ports", "it is two ports from %d to 65535, as 50000-50999", minPort)
		}
	}
	if address != "" {
		if c.external, err = netip.ParseAddr(address); err != nil || !c.external.Is4() {
			return badOption("passive-address", "it is an IPv4 address: PASV has no others, and EPSV says none")
		}
	}
	return nil
}
