package ftpd

import (
	"crypto/tls"
	"net/netip"
	"slices"
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
		{Name: "settle", Help: "How long after the end of an unencrypted upload the client has to be still there.", Default: "100ms"},
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

func badOption(name, format string, args ...any) error {
	return fault.New("ftp server option "+name, fault.Invalid, format, args...)
}

// configure checks options, and reads the certificate.
func configure(options map[string]string) (*config, error) {
	o := map[string]string{}
	for _, k := range Options() {
		o[k.Name] = k.Default
	}
	for name, value := range options {
		if _, ok := o[name]; !ok {
			return nil, badOption(name, "there is no such option")
		}
		o[name] = value
	}
	one := func(name string, of ...string) error {
		if !slices.Contains(of, o[name]) {
			return badOption(name, "it is one of %s", fault.Shown(strings.Join(of, ", ")))
		}
		return nil
	}
	number := func(name string, to *int, most int) error {
		n, err := strconv.Atoi(o[name])
		if err != nil || n < 1 || n > most {
			return badOption(name, "it is a number from 1 to %d", most)
		}
		*to = n
		return nil
	}
	duration := func(name string, to *time.Duration, least time.Duration) error {
		d, err := time.ParseDuration(o[name])
		if err != nil || d < least || d > time.Hour {
			return badOption(name, `it is a time as "30s", at most 1h`)
		}
		*to = d
		return nil
	}
	c := &config{}
	for _, err := range []error{
		one("tls", "required", "optional", "off", "implicit"), one("tls-reuse", "required", "optional"), one("tls-close", "required", "optional"), one("active", "on", "off"),
		number("connections", &c.most, 100_000), number("connections-per-address", &c.each, 100_000), number("max-entries", &c.entries, 1e9),
		number("login-tries", &c.tries, 100), number("login-failures", &c.failures, 1e6),
		duration("settle", &c.settle, 0), duration("idle", &c.idle, time.Millisecond), duration("timeout", &c.timeout, time.Millisecond),
		duration("login-timeout", &c.login, time.Millisecond), duration("login-delay", &c.delay, 0), duration("drain", &c.drain, 0),
	} {
		if err != nil {
			return nil, err
		}
	}
	c.tls, c.reuse, c.close, c.active = o["tls"], o["tls-reuse"] == "required", o["tls-close"] == "required", o["active"] == "on"
	if err := c.passive(o["passive-ports"], o["passive-address"]); err != nil {
		return nil, err
	}
	if c.tls == "off" {
		if o["cert"]+o["key"] != "" {
			return nil, badOption("cert", "with tls=off there is no use for it")
		}
		return c, nil
	}
	var err error
	c.security, err = security(o["cert"], o["key"])
	return c, err
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
