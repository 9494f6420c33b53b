package ftp

import (
	"context"
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/ftp/ftpd"
	"github.com/pannier/pannier/spec/fault"
)

// Driver is the driver "ftp". It has no state.
type Driver struct{}

// Describe says what the driver is.
func (Driver) Describe() plugins.Description {
	return plugins.Description{
		Name: "ftp", Version: "1", Schemes: []string{"ftp", "ftps"}, Listen: ftpd.Options(),
		Options: []plugins.Option{
			{Name: "tls", Help: "Of ftp://: off; explicit, commands are encrypted, and files where the server can; require, both or nothing.", Default: "off"},
			{Name: "ca", Help: "File with the certificates (PEM) of the authorities to trust, instead of the system's."},
			{Name: "pin", Help: "SHA-256 of the server's certificate in hexadecimal, or several with commas; no other is trusted, and no authority."},
			{Name: "connections", Help: "How many connections there may be at a time, 1 to 64; where it is two or more, one is never used to write.", Default: "5"},
			{Name: "timeout", Help: "How long the server may be silent.", Default: "30s"},
			{Name: "keepalive", Help: "After how long an unused connection is asked for a sign of life; 0s never.", Default: "30s"},
			{Name: "fxp", Help: "Hosts, separated by commas, with whose servers this one may exchange files directly, or any; both endpoints have to say so."},
			{Name: "fxp-data", Help: "With TLS: protected, or clear to let servers send each other files unencrypted.", Default: "protected"},
			{Name: "verify", Help: "How a written file is compared: hash where the server can, or size.", Default: "hash"},
			{Name: "replace", Help: "An older file of the name: rename has the server replace it in one step, delete removes it before.", Default: "rename"},
			{Name: "times", Help: "What is written has the time of its source, where the server can set it: keep, or off.", Default: "keep"},
			{Name: "max-entries", Help: "How many entries a directory may have.", Default: "1000000"},
		},
	}
}

// config is an endpoint, checked.
type config struct {
	host, address  string // address = HOST:PORT
	where          string // "ftp://HOST:PORT", for errors
	base           string // of the URL: absolute, or relative to where the login leads; may be empty
	user, password string
	implicit       bool
	tls            string // off, explicit, require
	roots          *x509.CertPool
	pins           [][]byte
	connections    int
	timeout        time.Duration
	keepalive      time.Duration
	fxp            []string
	fxpClear       bool
	hash           bool
	deleteFirst    bool
	times          bool
	maxEntries     int
}

func badOption(name, format string, args ...any) error {
	return fault.New("ftp option "+name, fault.Invalid, format, args...)
}

// at checks the URL of an endpoint.
func at(text string) (*config, error) {
	u, err := url.Parse(text)
	if err == nil && u.User != nil {
		return nil, fault.New("ftp endpoint", fault.Invalid, "the URL has a user; user and password are credentials")
	}
	if err != nil || u.Hostname() == "" || (u.Scheme != "ftp" && u.Scheme != "ftps") || u.RawQuery != "" || u.Fragment != "" {
		return nil, fault.New("ftp endpoint", fault.Invalid, "%s is not ftp://HOST[:PORT][/BASE] or ftps://...", fault.Shown(text))
	}
	c := &config{host: u.Hostname(), implicit: u.Scheme == "ftps", hash: true}
	port := u.Port()
	if port == "" {
		port = map[bool]string{false: "21", true: "990"}[c.implicit]
	}
	c.address = net.JoinHostPort(c.host, port)
	c.where = u.Scheme + "://" + c.address
	c.base = strings.TrimPrefix(u.Path, "/")
	return c, nil
}

// configure checks an endpoint without reaching anybody.
func configure(to plugins.Endpoint) (*config, error) {
	c, err := at(to.URL)
	if err != nil {
		return nil, err
	}
	c.user, c.password = to.User, to.Password
	if c.user == "" {
		c.user, c.password = "anonymous", "anonymous@"
	}
	for _, s := range []string{c.user, c.password, c.base} {
		if !sendable(s) {
			return nil, fault.New("ftp endpoint", fault.Invalid, "user, password or base has control characters, by which a command of FTP would end")
		}
	}
	o, err := c.options(to.Options)
	if err != nil {
		return nil, err
	}
	return c, c.authorities(o.Text("ca"))
}

// CheckEndpoint implements plugins.EndpointChecker.
func (Driver) CheckEndpoint(url string, options map[string]string) error {
	c, err := at(url)
	if err != nil {
		return err
	}
	_, err = c.options(options)
	return err
}

// options checks those, but for the files that they name.
func (c *config) options(given map[string]string) (*plugins.Values, error) {
	o := plugins.ReadOptions("ftp", (Driver{}).Describe().Options, given)
	c.tls, c.fxpClear = o.One("tls", "off", "explicit", "require"), o.One("fxp-data", "protected", "clear") == "clear"
	c.hash, c.deleteFirst = o.One("verify", "hash", "size") == "hash", o.One("replace", "rename", "delete") == "delete"
	c.times = o.One("times", "keep", "off") == "keep"
	c.connections, c.maxEntries = o.Number("connections", 64), o.Number("max-entries", 1e9)
	c.timeout, c.keepalive = o.Duration("timeout", time.Millisecond, time.Hour), o.Duration("keepalive", 0, time.Hour)
	if o.Err() != nil {
		return nil, o.Err()
	}
	if c.implicit {
		c.tls = "require"
	}
	for _, h := range strings.Split(o.Text("fxp"), ",") {
		if h = strings.TrimSpace(h); h != "" {
			c.fxp = append(c.fxp, strings.ToLower(h))
		}
	}
	if pin := o.Text("pin"); pin != "" {
		pins, err := parsePins(pin)
		if err != nil {
			return nil, err
		}
		c.pins = pins
	}
	return o, nil
}

// authorities reads the file of the option ca.
func (c *config) authorities(file string) error {
	if file == "" {
		return nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return fault.Wrap("ftp option ca", file, err)
	}
	c.roots = x509.NewCertPool()
	if !c.roots.AppendCertsFromPEM(pem) {
		return badOption("ca", "%s has no certificate in PEM", fault.Shown(file))
	}
	return nil
}

// Open logs in and asks what the server can.
func (Driver) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	cfg, err := configure(to)
	if err != nil {
		return nil, err
	}
	s := newSession(cfg)
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	s.open, s.all[c] = 1, true
	if err := s.learn(ctx, c); err != nil {
		c.kill()
		return nil, err
	}
	s.give(c)
	if cfg.keepalive > 0 {
		s.keeping.Add(1)
		go s.keep()
	}
	return s, nil
}

// learn asks a first connection what holds for all: FEAT, and where names begin.
func (s *session) learn(ctx context.Context, c *conn) error {
	r, err := c.command(ctx, "FEAT")
	if err != nil {
		return err
	}
	if r.code == 211 {
		s.feat = parseFeatures(r.lines)
	}
	if s.feat.has("UTF8") {
		if _, err := c.command(ctx, "OPTS UTF8 ON"); err != nil {
			return err
		}
	}
	home := "/"
	if r, err = c.command(ctx, "PWD"); err != nil {
		return err
	}
	if p, ok := quotedPath(r.text()); r.code == 257 && ok && strings.HasPrefix(p, "/") && sendable(p) {
		home = p
	}
	if strings.HasPrefix(s.config.base, "/") { // ftp://HOST//DIR is of the server's root
		home = "/"
	}
	s.base = path.Join(home, s.config.base)
	s.caps = s.capabilities(c)
	return nil
}

// whole says whether the server names a file once it has all of it, and judges it then, as
// package ftpd does. There is no part to be renamed, compared or gone on with.
func (s *session) whole() bool { return s.feat.has("ATOMIC") }

// features are the lines of FEAT: the word, and what follows.
type features map[string]string

func parseFeatures(lines []string) features {
	f := features{}
	for _, l := range lines[1:max(len(lines)-1, 1)] {
		word, rest, _ := strings.Cut(strings.TrimSpace(l), " ")
		f[strings.ToUpper(word)] = rest
	}
	return f
}

func (f features) has(word string) bool {
	_, ok := f[word]
	return ok
}

func (s *session) capabilities(c *conn) plugins.Capabilities {
	k := plugins.Capabilities{
		Offsets: true, Write: true, Resume: true, Atomic: !s.config.deleteFirst, List: true, Rename: true, Remove: true, Mkdir: true,
		Checksums: s.feat.checksums(), Copy: len(s.config.fxp) > 0, Single: s.connections == 1,
		Times: s.timeWord() != "",
	}
	note := func(format string) { k.Notes = append(k.Notes, format) }
	if s.whole() {
		k.Resume, k.Atomic, k.Verdict = false, true, true
		note("the server names a file once it has all of it: what is cut off begins anew")
	}
	if !s.feat.has("MLSD") && !s.feat.has("MLST") {
		note("the server has no MLSD: times of List have minutes or days, and their zone is not known")
	}
	if len(k.Checksums) == 0 {
		note("the server computes no checksums: what is written is compared by size")
	}
	switch {
	case c.tlsState == nil:
		note("nothing is encrypted: set tls=require or use ftps:// where the server can")
	case c.clearOnly:
		note("the server takes no PROT P: commands are encrypted, files are not")
	}
	return k
}
