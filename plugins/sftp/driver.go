package sftp

import (
	"context"
	"net"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/sftp/sftpd"
	"github.com/pannier/pannier/spec/fault"
)

// Driver is the driver "sftp". It has no state.
type Driver struct{}

// Describe says what the driver is.
func (Driver) Describe() plugins.Description {
	return plugins.Description{
		Name: "sftp", Version: "1", Schemes: []string{"sftp"}, Listen: sftpd.Options(),
		Options: []plugins.Option{
			{Name: "hostkey", Help: "Fingerprint of the server's key, as ssh-keygen -l prints it (SHA256:...), or several with commas; no other key is trusted."},
			{Name: "known-hosts", Help: "File of the server's keys, as ~/.ssh/known_hosts. Without it and hostkey nobody is trusted."},
			{Name: "algorithms", Help: "modern, or old for servers that have nothing else: SHA-1, CBC, 3DES, ChaCha20.", Default: "modern"},
			{Name: "connections", Help: "How many connections there may be at a time, 1 to 16; each carries any number of files.", Default: "2"},
			{Name: "timeout", Help: "How long the server may be silent while it owes a reply.", Default: "30s"},
			{Name: "keepalive", Help: "After how long an unused connection is asked for a sign of life; 0s never.", Default: "30s"},
			{Name: "verify", Help: "How a written file is compared: hash where the server can, or size.", Default: "hash"},
			{Name: "replace", Help: "An older file of the name, where the server's rename replaces none: rename fails then, delete removes it before.", Default: "rename"},
			{Name: "times", Help: "What is written has the time of its source: keep, or off.", Default: "keep"},
			{Name: "max-entries", Help: "How many entries a directory may have.", Default: "1000000"},
		},
	}
}

// config is an endpoint, checked.
type config struct {
	address     string // HOST:PORT
	where       string // "sftp://HOST:PORT", for errors
	base        string // of the URL: absolute, or relative to where the login leads; may be empty
	user        string
	password    string
	key         ssh.Signer // nil: none
	trust       trust
	old         bool // algorithms too
	connections int
	timeout     time.Duration
	keepalive   time.Duration
	hash        bool
	deleteFirst bool
	times       bool
	maxEntries  int
}

func badEndpoint(format string, args ...any) *fault.Error {
	return fault.New("sftp endpoint", fault.Invalid, format, args...)
}

// at checks the URL of an endpoint.
func at(text string) (*config, error) {
	u, err := url.Parse(text)
	if err == nil && u.User != nil {
		return nil, badEndpoint("the URL has a user; user and password are credentials")
	}
	if err != nil || u.Hostname() == "" || u.Scheme != "sftp" || u.RawQuery != "" || u.Fragment != "" {
		return nil, badEndpoint("%s is not sftp://HOST[:PORT][/BASE]", fault.Shown(text))
	}
	port := u.Port()
	if port == "" {
		port = "22"
	}
	c := &config{address: net.JoinHostPort(u.Hostname(), port), base: strings.TrimPrefix(u.Path, "/")}
	c.where = "sftp://" + c.address
	if c.base != "" && plugins.CheckName("/"+strings.Trim(c.base, "/")) != nil {
		return nil, badEndpoint("the base %s has empty elements, . or .., or control characters", fault.Shown(c.base))
	}
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
		return nil, badEndpoint("there is no user").Advise(`write credentials: {"user": "me", "secrets": {"key": "the private key in PEM"}}`)
	}
	if c.key, err = signer(to.Secrets); err != nil {
		return nil, err
	}
	if c.key == nil && c.password == "" {
		return nil, badEndpoint("there is neither a password nor a key").Advise(`add "password" to the credentials, or "key" to their "secrets": the private key in PEM, and "passphrase" if it has one`)
	}
	o, err := c.options(to.Options)
	if err != nil {
		return nil, err
	}
	return c, c.trust.read(o.Text("known-hosts"), c.address)
}

// options checks those, but for the files that they name.
func (c *config) options(given map[string]string) (*plugins.Values, error) {
	o := plugins.ReadOptions("sftp", (Driver{}).Describe().Options, given)
	c.old, c.hash, c.deleteFirst = o.One("algorithms", "modern", "old") == "old", o.One("verify", "hash", "size") == "hash", o.One("replace", "rename", "delete") == "delete"
	c.times = o.One("times", "keep", "off") == "keep"
	c.connections, c.maxEntries = o.Number("connections", 16), o.Number("max-entries", 1e9)
	c.timeout, c.keepalive = o.Duration("timeout", time.Millisecond, time.Hour), o.Duration("keepalive", 0, time.Hour)
	if o.Err() != nil {
		return nil, o.Err()
	}
	pins, err := pinned(o.Text("hostkey"))
	c.trust.pins = pins
	return o, err
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
	if err := s.learn(ctx, c); err != nil {
		c.kill(err)
		return nil, err
	}
	s.open, s.all = 1, []*conn{c}
	return s, nil
}
