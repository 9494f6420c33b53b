package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/doctor"
	"github.com/pannier/pannier/flow/flowtest/freeport"
)

// TestReloadOptions: options with which a plugin of this program would not work keep the old
// configuration, each time, whatever of the plugin has shown by then.
func TestReloadOptions(t *testing.T) {
	c := newConduit(t)
	address := freeport.For(t, "127.0.0.1")
	c.write(bridgeRules, bridgeRules)
	c.start(c.a)
	for bad, says := range map[string]string{
		c.listens("sftp", address, "", `partner = "hostb", rule = "out"`):                                              "listener " + address + ": sftp listener option hostkey: invalid argument: it is missing: ",
		c.listens("ftp", address, `"key=/k"`, `partner = "hostb", rule = "out"`):                                       "listener " + address + ": ftp server option key: ",
		"[[bridge]]\nname = \"box\"\nplugin = \"sftp\"\nendpoint = \"sftp://x\"\noptions = [\"hostkey=SHA256:abc\"]\n": "bridge box: sftp option hostkey: invalid argument: ",
		"[[bridge]]\nname = \"box\"\nplugin = \"ftp\"\nendpoint = \"ftp://x\"\noptions = [\"pin=abc\"]\n":              "bridge box: ftp option pin: invalid argument: ",
		"[[bridge]]\nname = \"box\"\nplugin = \"s3\"\nendpoint = \"s3://x/bucket\"\noptions = [\"part-size=4\"]\n":     "bridge box: s3 option part-size: invalid argument: ",
	} {
		c.write(bridgeRules+bad, bridgeRules)
		for range 2 {
			if out := c.reloads(command.Usage); !strings.Contains(out, says) || !strings.Contains(out, c.a.Config()+":") {
				t.Errorf("reload says %q, want %q", out, says)
			}
		}
		if _, out, err := c.pannier("config", "check", "--config", c.a.Config()); err != nil || !strings.Contains(out, "warning: "+says) {
			t.Errorf("%v: config check says %q, want %q", err, out, says)
		}
	}
	if out := c.does("listener", "list"); strings.Contains(out, address) {
		t.Errorf("listeners are %s", out)
	}
}

// TestListenerDown: a listener whose plugin does not serve is never said to serve, reload and doctor
// say why, and who connects is not left waiting.
func TestListenerDown(t *testing.T) {
	c := newConduit(t)
	address, key := freeport.For(t, "127.0.0.1"), filepath.Join(t.TempDir(), "absent", "hostkey")
	c.write(bridgeRules, bridgeRules)
	c.start(c.a)
	c.write(bridgeRules+c.listens("sftp", address, fmt.Sprintf("%q", "hostkey="+key), `partner = "hostb", rule = "out"`), bridgeRules)
	if out := c.reloads(command.Some); !strings.Contains(out, "listener "+address+" serves nobody, and is tried again: ") || !strings.Contains(out, key) {
		t.Errorf("reload says %q", out)
	}
	conn, err := net.Dial("tcp", address)
	if err == nil {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a client is left waiting: %v", err)
	}
	all, code := c.finds()
	if code != command.Failed {
		t.Errorf("doctor ends with %d", code)
	}
	c.found(all, doctor.Fail, "plugin", "listener "+address+" plugin sftp starts, but: serve clients: the daemon serves none: ")
	if log := c.logA.String(); strings.Contains(log, "foreign clients are served") || !strings.Contains(log, "foreign clients are not served") {
		t.Errorf("the log says %s", log)
	}
}

// TestPartnerTestRefused: a password that a bridge's server does not accept ends partner test with the
// exit code that the help says.
func TestPartnerTestRefused(t *testing.T) {
	c := newConduit(t)
	address, login := freeport.For(t, "127.0.0.1"), filepath.Join(t.TempDir(), "login")
	if err := os.WriteFile(login, []byte(`{"user": "acme", "password": "wrong"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c.write(bridgeRules+c.listens("ftp", address, `"tls=off"`, `partner = "hostb", rule = "out"`)+
		fmt.Sprintf("[[bridge]]\nname = \"own\"\nplugin = \"ftp\"\nendpoint = \"ftp://%s\"\ncredentials = \"file:%s\"\n", address, login), bridgeRules)
	c.start(c.a)
	c.reachable(address)
	_, said, err := c.pannier("partner", "test", "own")
	if exit := exitOf(err); exit != command.Permission || !strings.Contains(said, "not authenticated") || !strings.Contains(said, "530") {
		t.Errorf("exit code %d: %s", exit, said)
	}
}
