package sftpd

import (
	"strings"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// Options are what a listener can be told.
func Options() []plugins.Option {
	return []plugins.Option{
		{Name: "hostkey", Help: "File with the server's private key; made, ed25519, if it is not there."},
		{Name: "login", Help: "How clients prove who they are: key, password, or both with a comma.", Default: "key,password"},
		{Name: "login-time", Help: "How long a client may take until it is let in.", Default: "30s"},
		{Name: "login-tries", Help: "After how many refusals a connection is closed, 1 to 20.", Default: "6"},
		{Name: "logins", Help: "How many connections there may be of clients that are not let in yet.", Default: "64"},
		{Name: "connections", Help: "How many connections there may be.", Default: "256"},
		{Name: "connections-per-address", Help: "How many there may be from one address, or from one /64 of IPv6.", Default: "32"},
		{Name: "idle", Help: "After how long a connection is closed that asks for nothing.", Default: "10m"},
		{Name: "keepalive", Help: "After how much silence a client is asked for a sign of life; after twice that it is gone. 0s never.", Default: "30s"},
		{Name: "drain", Help: "How long transfers may go on once the server is to end.", Default: "1m"},
	}
}

// config is the options, checked.
type config struct {
	hostkey         string
	keys, passwords bool
	loginTime       time.Duration
	tries           int
	logins          int // connections before the login
	connections     int
	perAddress      int
	idle            time.Duration
	keepalive       time.Duration // 0: none
	drain           time.Duration
}

// what is whose options they are, for errors.
const what = "sftp listener"

const day = 24 * time.Hour

func badOption(name, format string, args ...any) *fault.Error {
	return fault.New(what+" option "+name, fault.Invalid, format, args...)
}

// CheckOptions says what is wrong with options, as far as it can be seen without their files.
func CheckOptions(given map[string]string) error {
	_, err := configure(given)
	return err
}

// configure checks options. It reads no file.
func configure(given map[string]string) (*config, error) {
	o := plugins.ReadOptions(what, Options(), given)
	c := &config{
		hostkey: o.Text("hostkey"), tries: o.Number("login-tries", 20), logins: o.Number("logins", 100_000),
		connections: o.Number("connections", 100_000), perAddress: o.Number("connections-per-address", 100_000),
		loginTime: o.Duration("login-time", time.Second, day), idle: o.Duration("idle", time.Second, day),
		keepalive: o.Duration("keepalive", 0, day), drain: o.Duration("drain", 0, day),
	}
	if o.Err() != nil {
		return nil, o.Err()
	}
	if err := c.methods(o.Text("login")); err != nil {
		return nil, err
	}
	if c.hostkey == "" {
		return nil, badOption("hostkey", "it is missing: a file for the server's private key, which is made if it is not there").
			Advise("set options = [\"hostkey=/var/lib/pannier/sftp-hostkey\"], or another file in a directory that the node's user may write")
	}
	return c, nil
}

func (c *config) methods(list string) error {
	for _, m := range strings.Split(list, ",") {
		switch strings.TrimSpace(m) {
		case "key":
			c.keys = true
		case "password":
			c.passwords = true
		default:
			return badOption("login", "it is key, password, or key,password")
		}
	}
	return nil
}
