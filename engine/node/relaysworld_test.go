package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/guest"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/flow/flowtest/sshserver"
	"github.com/pannier/pannier/spec/adminpb"
)

// What the four relays of spec/plugin.md are made of: two nodes, of which hosta has the plugins, and a
// foreign client or server.

// relays is that world, for one relay.
type relays struct {
	t        *testing.T
	protocol string // "ftp", "sftp"
	a, b     *nodetest.Node
	log      *flowtest.Log
	dir      string // for what clients have

	address, key string // of hosta's listener, and its user's, with SFTP

	server interface { // of hosta's bridge "box"
		Kill()
		Restart()
	}
	box string // its directory

	rate string // of bytes from node to node, so that there is a moment in the data

	client atomic.Pointer[os.Process] // the last that was started
}

// patience is how long something may take, also on a busy host.
const patience = 90 * time.Second

func newRelays(t *testing.T, protocol string) *relays {
	dir, err := os.MkdirTemp("", "rly") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &relays{t: t, protocol: protocol, dir: t.TempDir(), log: &flowtest.Log{}, rate: "5MB/s"}
	if w.a, w.b, err = nodetest.Pair(dir, self); err != nil {
		t.Fatal(err)
	}
	w.a.Log, w.b.Log = w.log, w.log
	t.Cleanup(func() {
		w.a.Close()
		w.b.Close()
		if t.Failed() {
			t.Logf("%s", w.log)
		}
	})
	return w
}

// begin writes the configurations and starts both.
func (w *relays) begin(a, b string) {
	w.t.Helper()
	for _, n := range []struct {
		node, partner *nodetest.Node
		text          string
	}{{w.a, w.b, a}, {w.b, w.a, b}} {
		if err := n.node.Write([]string{`log = "info"`}, []string{fmt.Sprintf("bandwidth = %q", w.rate)}, n.text, n.partner); err != nil {
			w.t.Fatal(err)
		}
	}
	w.start(w.b)
	w.start(w.a)
}

// start starts a node that does not run.
func (w *relays) start(n *nodetest.Node) {
	w.t.Helper()
	if n.PID() != 0 {
		return
	}
	goOn(n.Dir)
	if err := n.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// rule is a section with what else it has.
func rule(name, direction, more string) string {
	return fmt.Sprintf("[[rule]]\nname = %q\ndirection = %q\npartners = [\"*\"]\nretry = { attempts = 30, delay = \"1s\", factor = 1 }\n%s\n", name, direction, more)
}

const here = "root = \"%ROOT%\"\n"

// listener is hosta's section of one, and of its user "acme".
func (w *relays) listener() string {
	w.t.Helper()
	w.address = freeport.For(w.t, "127.0.0.1")
	user, options := `partner = "hostb", rule = "out", get = "in"`, `"tls=off"`
	if w.protocol == "sftp" {
		w.key = filepath.Join(w.dir, "id")
		if out, err := exec.Command(sshserver.Program(w.t, "ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", w.key).CombinedOutput(); err != nil {
			w.t.Fatalf("%v: %s", err, out)
		}
		user += fmt.Sprintf(`, keys = "file:%s.pub"`, w.key)
		options = fmt.Sprintf("%q", "hostkey="+filepath.Join(w.dir, "hostkey"))
	} else {
		if _, err := exec.LookPath("curl"); err != nil {
			w.t.Skip("there is no curl: listeners are not tested with it; .ci/test installs it as root on Debian")
		}
		hash, err := guest.Hash("secret")
		if err == nil {
			err = os.WriteFile(filepath.Join(w.dir, "password"), []byte(hash), 0o600)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		user += fmt.Sprintf(`, password = "file:%s"`, filepath.Join(w.dir, "password"))
	}
	return fmt.Sprintf("[[listener]]\nplugin = %q\nlisten = %q\noptions = [%s]\nusers = [ { name = \"acme\", %s } ]\n", w.protocol, w.address, options, user)
}

// bridge is hosta's section of one, to a real server.
func (w *relays) bridge() string {
	w.t.Helper()
	var endpoint, options string
	var credentials any
	if w.protocol == "sftp" {
		s := sshserver.Start(w.t)
		key, err := os.ReadFile(s.Key)
		if err != nil {
			w.t.Fatal(err)
		}
		w.server, w.box = s, w.t.TempDir()
		endpoint, options = "sftp://"+s.Address()+"/"+w.box, fmt.Sprintf("options = [\"hostkey=%s\"]\n", s.HostKey)
		credentials = map[string]any{"user": s.User, "secrets": map[string]string{"key": string(key)}}
	} else {
		s := ftpserver.Start(w.t, "proftpd", ftpserver.Slow)
		w.server, w.box, endpoint = s, s.Data, "ftp://"+s.Address
		credentials = map[string]string{"user": s.User, "password": s.Password}
	}
	for _, dir := range []string{"in", "out"} {
		at := filepath.Join(w.box, dir)
		if err := errors.Join(os.Mkdir(at, 0o777), os.Chmod(at, 0o777)); err != nil {
			w.t.Fatal(err)
		}
	}
	text, err := json.Marshal(credentials)
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, "credentials"), text, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf("[[bridge]]\nname = \"box\"\nplugin = %q\nendpoint = %q\ncredentials = \"file:%s\"\n%s", w.protocol, endpoint, filepath.Join(w.dir, "credentials"), options)
}

// foreign runs an ordinary client of the listener, that uploads a local file or downloads to one; slow
// ones take a moment.
func (w *relays) foreign(upload, slow bool, local, name string) (string, error) {
	args := []string{"curl", "-sS"}
	switch {
	case w.protocol == "sftp":
		verb := fmt.Sprintf("get /%s %s\n", name, local)
		if upload {
			verb = fmt.Sprintf("put %s /%s\n", local, name)
		}
		batch := local + ".batch"
		if err := os.WriteFile(batch, []byte(verb), 0o600); err != nil {
			return "", err
		}
		host, port, err := net.SplitHostPort(w.address)
		if err != nil {
			return "", err
		}
		args = []string{sshserver.Program(w.t, "sftp"), "-q", "-b", batch, "-F", "none", "-i", w.key, "-P", port, "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oIdentitiesOnly=yes", "-oLogLevel=ERROR"}
		if slow {
			args = append(args, "-l", "24000")
		}
		args = append(args, "acme@"+host)
	default:
		if slow {
			args = append(args, "--limit-rate", "3M")
		}
		args = append(args, map[bool]string{true: "-T", false: "-o"}[upload], local, "ftp://acme:secret@"+w.address+"/"+name)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return "", err
	}
	w.client.Store(cmd.Process)
	err := cmd.Wait()
	return said.String(), err
}

// kill ends one of them without a word.
func (w *relays) kill(who string) {
	w.t.Helper()
	switch who {
	case "plugin":
		for _, pid := range flowtest.Family(w.a.PID())[1:] {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	case "hosta":
		w.a.Kill()
	case "hostb":
		w.b.Kill()
	case "server":
		w.server.Kill()
	case "client":
		_ = syscall.Kill(-w.client.Load().Pid, syscall.SIGKILL)
	}
}

// mend has all of them again.
func (w *relays) mend(killed string) {
	w.t.Helper()
	goOn(w.a.Dir)
	goOn(w.b.Dir)
	if killed == "server" {
		w.server.Restart()
	}
	w.start(w.b)
	w.start(w.a)
}

// until waits for something to be so, and says whether it was.
func until(so func() bool) bool {
	for began := time.Now(); !so(); time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			return false
		}
	}
	return true
}

// openAt are the requests of a node that have not ended.
func openAt(ctx context.Context, n *nodetest.Node) ([]*adminpb.Request, error) {
	return requestsAt(ctx, n, adminpb.Request_TOSUBMIT, adminpb.Request_RUNNING, adminpb.Request_INTERRUPTED)
}

// requestsAt are those of a node in some states.
func requestsAt(ctx context.Context, n *nodetest.Node, states ...adminpb.Request_State) (all []*adminpb.Request, err error) {
	client, err := n.Client()
	if err != nil {
		return nil, err
	}
	s, err := client.List(ctx, &adminpb.ListRequest{States: states})
	for err == nil {
		var r *adminpb.Request
		if r, err = s.Recv(); err == nil {
			all = append(all, r)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return all, err
}

// partly says whether a file below a directory that has no name yet has that many bytes.
func partly(dir string, least int64) bool {
	for _, path := range leftovers(dir) {
		if fi, err := os.Stat(path); err == nil && fi.Size() >= least {
			return true
		}
	}
	return false
}

// names are the files in a directory.
func names(dir string) string {
	all, _ := os.ReadDir(dir)
	var s []string
	for _, e := range all {
		s = append(s, e.Name())
	}
	return strings.Join(s, " ")
}
