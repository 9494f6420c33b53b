package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/flow/flowtest/sshserver"
	"github.com/pannier/pannier/spec/adminpb"
)

// bridgeBlocks are the blocks of spec/firstbridge.md: toml or sh, of which host, and what it says it is for.
var bridgeBlocks = regexp.MustCompile("(?s)```(toml|sh)\n# (?:on )?(hosta|hostb)(?:: (.*?))?\n(.*?)```\n")

// TestFirstBridge types in spec/firstbridge.md: a file of an FTP client is at an sshd behind another node when the
// client is told so, and a copy between two FTP servers goes on where it was after kill -9 of the daemon, and of
// the plugin.
func TestFirstBridge(t *testing.T) {
	text, err := os.ReadFile("../../spec/firstbridge.md")
	if err != nil {
		t.Fatal(err)
	}
	all := bridgeBlocks.FindAllStringSubmatch(string(text), -1)
	if rest := bridgeBlocks.ReplaceAllString(string(text), ""); strings.Count(rest, "```") != 2 || strings.Count(rest, "pannier plugin new") != 1 { // TestPluginNew has that
		t.Fatal("there is a block that says for no host what it is")
	}
	c := newConduit(t)
	w := &bridgeWalk{conduit: c, archive: ftpserver.Start(t, "proftpd", ftpserver.FXP, ftpserver.Slow), warehouse: ftpserver.Start(t, "vsftpd", ftpserver.FXP), bank: t.TempDir()}
	ssh, listen := sshserver.Start(t), freeport.For(t, "127.0.0.1")
	key, err := os.ReadFile(ssh.Key)
	if err != nil {
		t.Fatal(err)
	}
	w.users = []map[string]any{{"user": ssh.User, "secrets": map[string]string{"key": string(key)}}} // in the order in which they are wanted
	for _, f := range []*ftpserver.Server{w.archive, w.warehouse} {
		w.users = append(w.users, map[string]any{"user": f.User, "password": f.Password})
	}
	c.write("", "")
	c.start(c.b, c.a)
	places := map[string]*strings.Replacer{}
	for _, n := range []*nodetest.Node{c.a, c.b} {
		dir := t.TempDir()
		places[n.Name] = strings.NewReplacer("-o pannier -g pannier ", "", "-o pannier ", "", "/etc/pannier/", dir+"/", "/srv/", dir+"/srv/", "/tmp/", dir+"/", "0.0.0.0:2121", listen, "hosta.example:2121", listen,
			"bank.example/in", ssh.Address()+"/"+w.bank, "SHA256:...", ssh.HostKey, "archive.example", w.archive.Address, "warehouse.example", w.warehouse.Address)
	}
	for _, b := range all {
		n := map[string]*nodetest.Node{"hosta": c.a, "hostb": c.b}[b[2]]
		w.block(n, b[1], b[3], places[n.Name].Replace(b[4]))
	}
	if w.looked != 7 {
		t.Errorf("%d steps were looked at", w.looked)
	}
}

// bridgeWalk is who types that in.
type bridgeWalk struct {
	*conduit
	archive, warehouse *ftpserver.Server
	bank               string           // directory of the sshd
	users              []map[string]any // that come next, in place of "me"
	film               []byte
	id                 string // of the copy
	moved              int64  // of it, when something was killed
	looked             int    // at so many steps
}

// block types one in.
func (w *bridgeWalk) block(n *nodetest.Node, kind, title, text string) {
	w.t.Helper()
	if kind == "toml" {
		old, err := os.ReadFile(n.Config())
		if err != nil {
			w.t.Fatal(err)
		}
		w.wrote(n.Config(), append(append(old, '\n'), text...))
		return
	}
	const me = `{"user": "me", "password": "secret"}`
	for strings.Contains(text, me) {
		is, err := json.Marshal(w.users[0])
		if err != nil {
			w.t.Fatal(err)
		}
		text, w.users = strings.Replace(text, me, string(is), 1), w.users[1:]
	}
	before, after := w.step(title)
	if before != nil && !before() {
		return // it was done another way
	}
	cmd := exec.CommandContext(w.t.Context(), "bash", "-euo", "pipefail", "-c", strings.ReplaceAll(text, " ID", " "+w.id))
	cmd.Env = append(os.Environ(), "PANNIER_CONFIG="+n.Config())
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s\n%v\n%s", text, err, out)
	}
	if strings.Contains(text, "--write") && strings.Count(string(out), "works") != 2 {
		w.t.Errorf("direct copies are tried:\n%s", out)
	}
	if after != nil {
		after(string(out))
	}
}

// step is what is looked at, and done, before and after a block with a title. before says whether it is
// to be typed in.
func (w *bridgeWalk) step(title string) (before func() bool, after func(out string)) {
	if title != "" {
		w.looked++
	}
	switch title {
	case "a client":
		return func() bool {
			w.until("the listener is there", func() bool { return strings.Contains(w.logA.String(), "foreign clients are served") })
			return true
		}, func(string) { w.has(filepath.Join(w.bank, "november.csv"), []byte("rent 1200\n")) }
	case "there it is":
		return nil, func(out string) {
			if !strings.Contains(out, "november.csv") {
				w.t.Errorf("ls says %q", out)
			}
		}
	case "its verdict":
		return nil, func(out string) {
			if !strings.Contains(out, "DONE") {
				w.t.Errorf("ls says %q", out)
			}
		}
	case "a copy":
		return func() bool {
			w.film = noise(512 << 20)
			w.wrote(filepath.Join(w.archive.Data, "movie.mov"), w.film)
			return true
		}, func(out string) { w.id = regexp.MustCompile(`[0-9a-f]{32}`).FindString(out) }
	case "the daemon is killed":
		return func() bool { w.kills(func() { w.a.Kill(); w.start(w.a) }); return false }, nil
	case "the plugin is killed":
		return func() bool { w.kills(func() { w.killPlugins() }); return false }, nil
	case "the end":
		return nil, w.ended
	}
	if title != "" {
		w.t.Errorf("nobody knows what %q is", title)
	}
	return nil, nil
}

// kills does it when a part of the copy that can be gone on with has moved since the last time.
func (w *bridgeWalk) kills(kill func()) {
	w.t.Helper()
	client := w.client(w.a)
	w.until("bytes move", func() bool {
		r, err := client.Get(w.t.Context(), &adminpb.Ref{Id: w.id})
		if err == nil && r.GetState() == adminpb.Request_DONE {
			w.t.Fatal("too quick for a kill")
		}
		moved := r.GetLive().GetReceived()
		if err != nil || moved <= w.moved+1<<20 {
			return false
		}
		w.moved = moved
		return true
	})
	kill()
}

// killPlugins kills the processes of hosta's plugins for FTP.
func (w *bridgeWalk) killPlugins() {
	w.t.Helper()
	n := 0
	for _, pid := range nodetest.Descendants(w.a.PID()) {
		words, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.Contains(words, []byte("bundled-plugin\x00ftp")) {
			n++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if n == 0 {
		w.t.Error("there is no plugin to be killed")
	}
}

// ended looks at the copy when it is over.
func (w *bridgeWalk) ended(out string) {
	w.t.Helper()
	w.has(filepath.Join(w.warehouse.Data, "movie.mov"), w.film)
	if !regexp.MustCompile(`compared\tdirect\+size\nattempt\t([3-9]|\d\d)\n`).MatchString(out) {
		w.t.Errorf("show says\n%s", out)
	}
	began := regexp.MustCompile(`bytes have moved.* id=`+w.id+` .* from=(\d+) `).FindAllStringSubmatch(w.logA.String(), -1) // but of the attempt that ended with the daemon
	if len(began) == 0 {
		w.t.Error("no attempt has moved bytes")
	}
	for _, b := range began {
		if at, _ := strconv.ParseInt(b[1], 10, 64); at < 1<<20 {
			w.t.Errorf("attempts began at %v", began)
		}
	}
}
