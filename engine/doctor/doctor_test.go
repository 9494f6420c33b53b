package doctor_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/doctor"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/flowtest/testcert"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/host"
)

// envChild makes this program look at the configuration of that name, as another user and
// with other limits, and print what it finds.
const envChild = "PANNIER_TEST_DOCTOR"

// nobody is a user that may do little.
const nobody = 65534

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == host.EntryArgument {
		plugins.Serve(dir.Driver{}, host.Node)
	}
	if path := os.Getenv(envChild); path != "" {
		if err := child(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	cfg, err := config.Parse(path, text)
	if err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 200, Max: 200}); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		if err := syscall.Setuid(nobody); err != nil {
			return err
		}
	}
	e := json.NewEncoder(os.Stdout)
	doctor.Look(context.Background(), patient(cfg), func(f doctor.Finding) { err = e.Encode(f) })
	return err
}

func patient(cfg *config.Config) doctor.Host {
	return doctor.Host{Config: cfg, Now: time.Now, Plugin: func(is config.Bridge) (host.Config, error) { return node.PluginConfig(is, []string{"dir"}) }}
}

// ward is a host with nothing wrong: a state directory with a key, and a root.
type ward struct {
	t           *testing.T
	state, root string
	node, rest  string // of the configuration
	now         func() time.Time
	patience    time.Duration
}

func newWard(t *testing.T) *ward {
	t.Helper()
	base := t.TempDir()
	w := &ward{t: t, state: filepath.Join(base, "state"), root: filepath.Join(base, "root"), now: time.Now}
	w.must(os.Mkdir(w.state, 0o700), os.Mkdir(w.root, 0o755), os.Chmod(base, 0o755), os.Chmod(filepath.Dir(base), 0o755))
	_, err := carrier.LoadOrCreateIdentity(w.state)
	w.must(err)
	return w
}

func (w *ward) must(errs ...error) {
	w.t.Helper()
	for _, err := range errs {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *ward) text() string {
	return fmt.Sprintf("[node]\nname = \"n\"\nstate = %q\nadmin = \"unix://%s/a.sock\"\n%s\n[[rule]]\nname = \"in\"\ndirection = \"receive\"\npartners = [\"*\"]\nroot = %[4]q\n[[rule]]\nname = \"out\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = %[4]q\n%[5]s\n", w.state, w.state, w.node, w.root, w.rest)
}

// look is what is found, but for what this machine is.
func (w *ward) look() (all []doctor.Finding) {
	w.t.Helper()
	cfg, err := config.Parse("p.toml", []byte(w.text()))
	w.must(err)
	h := patient(cfg)
	h.Now, h.Patience = w.now, w.patience
	doctor.Look(w.t.Context(), h, func(f doctor.Finding) { all = append(all, f) })
	names, last := doctor.Checks(), 0
	for _, f := range all {
		at := slices.Index(names, f.Check)
		if at < last {
			w.t.Errorf("%+v comes late", f)
		}
		last = at
		if f.Text == "" || f.Outcome == doctor.Fail && f.Do == "" && f.Check != "partner" {
			w.t.Errorf("%+v says too little", f)
		}
	}
	return all
}

// has wants a finding.
func has(t *testing.T, all []doctor.Finding, o doctor.Outcome, check, subject, text string) {
	t.Helper()
	for _, f := range all {
		if f.Outcome == o && f.Check == check && strings.Contains(f.Subject, subject) && strings.Contains(f.Text, text) {
			return
		}
	}
	t.Errorf("no %s of %s %q %q in\n%+v", o, check, subject, text, all)
}

// TestHealthy: nothing fails where nothing is wrong, and nothing is left behind.
func TestHealthy(t *testing.T) {
	w := newWard(t)
	w.rest = fmt.Sprintf("[[bridge]]\nname = \"b\"\nplugin = \"dir\"\nendpoint = \"dir://%s\"\n[[folder]]\nname = \"f\"\nrule = \"out\"\npartner = \"b\"\ndir = \"box\"\nafter = \"delete\"\n", w.root)
	w.must(os.Mkdir(filepath.Join(w.root, "box"), 0o755))
	all := w.look()
	for _, f := range all {
		if f.Outcome == doctor.Fail {
			t.Errorf("%+v", f)
		}
	}
	for _, want := range [][2]string{{"plugin", "bridge b"}, {"folder", "f"}, {"root", "rule in"}, {"store", "store.db"}, {"address", "node.admin"}, {"state", "identity.pem"}, {"limit", "open files"}, {"limit", "inotify watches"}} {
		has(t, all, doctor.OK, want[0], want[1], "")
	}
	for _, dir := range []string{w.state, w.root, filepath.Join(w.root, "box")} {
		names, err := os.ReadDir(dir)
		w.must(err)
		for _, n := range names {
			if n.Name() != "identity.pem" && n.Name() != "box" {
				t.Errorf("%s/%s was left", dir, n.Name())
			}
		}
	}
}

// TestBroken breaks one thing at a time, and wants to be told.
func TestBroken(t *testing.T) {
	for name, tc := range map[string]struct {
		hurt                 func(*ward)
		outcome              doctor.Outcome
		check, subject, text string
	}{
		"root missing":                 {func(w *ward) { w.must(os.Remove(w.root)) }, doctor.Fail, "root", "rule in", "there is no directory"},
		"root is a file":               {func(w *ward) { w.must(os.Remove(w.root), os.WriteFile(w.root, nil, 0o644)) }, doctor.Fail, "root", "rule out", "no directory"},
		"root read-only":               {func(w *ward) { w.root = "/proc" }, doctor.Fail, "root", "rule in", "nothing can be received"},
		"root read-only for who sends": {func(w *ward) { w.root = "/proc" }, doctor.Warn, "root", "rule out", "partners can send nothing"},
		"key of all":                   {func(w *ward) { w.must(os.Chmod(filepath.Join(w.state, "identity.pem"), 0o644)) }, doctor.Fail, "state", "identity.pem", "mode 0644"},
		"state of all":                 {func(w *ward) { w.must(os.Chmod(w.state, 0o777)) }, doctor.Fail, "state", "state", "others may write"},
		"state no directory":           {func(w *ward) { w.must(os.RemoveAll(w.state), os.WriteFile(w.state, nil, 0o600)) }, doctor.Fail, "state", "state", "no directory"},
		"state cannot be made":         {func(w *ward) { w.state = "/proc/none" }, doctor.Fail, "state", "/proc/none", "cannot make it"},
		"restore half done":            {func(w *ward) { w.must(os.Mkdir(filepath.Join(w.state, ".restoring"), 0o700)) }, doctor.Fail, "state", "state", "restore"},
		"state in memory": {func(w *ward) {
			at, err := os.MkdirTemp("/dev/shm", "doctor")
			w.must(err)
			w.t.Cleanup(func() { os.RemoveAll(at) })
			w.state = at
		}, doctor.Warn, "disk", "/dev/shm", "in memory"},
		"folder moves elsewhere": {func(w *ward) {
			at, err := os.MkdirTemp("/dev/shm", "doctor")
			w.must(err, os.Mkdir(filepath.Join(w.root, "box"), 0o755), os.Symlink(at, filepath.Join(w.root, "away")))
			w.t.Cleanup(func() { os.RemoveAll(at) })
			w.rest = "[[partner]]\nname = \"p\"\naddress = \"tls://127.0.0.1:1\"\nkey = \"sha256:" + strings.Repeat("0", 64) + "\"\n[[folder]]\nname = \"f\"\nrule = \"out\"\npartner = \"p\"\ndir = \"box\"\nafter = \"move\"\nto = \"away/sent\"\n"
		}, doctor.Fail, "folder", "f", "another file system"},
		"folder moves to no directory": {func(w *ward) {
			w.must(os.Mkdir(filepath.Join(w.root, "box"), 0o755), os.WriteFile(filepath.Join(w.root, "sent"), nil, 0o644))
			w.rest = "[[partner]]\nname = \"p\"\naddress = \"tls://127.0.0.1:1\"\nkey = \"sha256:" + strings.Repeat("0", 64) + "\"\n[[folder]]\nname = \"f\"\nrule = \"out\"\npartner = \"p\"\ndir = \"box\"\nfailed = \"move\"\nfailed_to = \"sent\"\n"
		}, doctor.Fail, "folder", "f", "files cannot be moved to "},
		"port in use": {func(w *ward) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			w.must(err)
			w.t.Cleanup(func() { l.Close() })
			w.node = fmt.Sprintf("listen = [\"tls://%s\"]", l.Addr())
		}, doctor.Fail, "address", "node.listen", "another process"},
		"no address of ours": {func(w *ward) { w.node = `listen = ["tls://192.0.2.1:6610"]` }, doctor.Fail, "address", "192.0.2.1", "does not have"},
		"socket in use": {func(w *ward) {
			at := filepath.Join(w.state, "x.sock")
			l, err := net.Listen("unix", at)
			w.must(err)
			w.t.Cleanup(func() { l.Close() })
			w.node = fmt.Sprintf("listen = [\"unix://%s\"]", at)
		}, doctor.Fail, "address", "x.sock", "another process"},
		"store in use": {func(w *ward) {
			s, err := boltstore.Open(boltstore.Config{Path: node.StorePath(w.state)})
			w.must(err)
			w.t.Cleanup(func() { s.Close() })
		}, doctor.Fail, "store", "store.db", "another process"},
		"store damaged": {func(w *ward) {
			s, err := boltstore.Open(boltstore.Config{Path: node.StorePath(w.state)})
			w.must(err, s.Close())
			f, err := os.OpenFile(node.StorePath(w.state), os.O_RDWR, 0)
			w.must(err)
			_, err = f.WriteAt(make([]byte, 8192), 0)
			w.must(err, f.Close())
		}, doctor.Fail, "store", "store.db", "damaged"},
		"tokens damaged": {func(w *ward) { w.must(os.WriteFile(node.TokensPath(w.state), []byte("{"), 0o600)) }, doctor.Fail, "token", "tokens.json", "does not start"},
		"another program": {func(w *ward) {
			w.rest = fmt.Sprintf("[[bridge]]\nname = \"b\"\nplugin = \"/bin/true\"\nsha256 = %q\nendpoint = \"dir:///tmp\"\n", strings.Repeat("0", 64))
		}, doctor.Fail, "plugin", "bridge b", "sha256"},
		"no plugin": {func(w *ward) {
			w.rest = "[[bridge]]\nname = \"b\"\nplugin = \"/bin/true\"\nendpoint = \"dir:///tmp\"\n"
		}, doctor.Fail, "plugin", "bridge b", "does not start"},
		"no login": {func(w *ward) {
			w.rest = "[[bridge]]\nname = \"b\"\nplugin = \"dir\"\nendpoint = \"dir:///nowhere/at/all\"\n"
		}, doctor.Fail, "plugin", "bridge b", "starts, but"},
		"push token of all": {func(w *ward) {
			at := filepath.Join(w.state, "push")
			w.must(os.WriteFile(at, []byte("x"), 0o644))
			w.rest = fmt.Sprintf("[push]\nurl = \"https://127.0.0.1/\"\nsecret = \"file:%s\"\n", at)
		}, doctor.Fail, "secret", "push", "0600"},
		"certificate is none": {func(w *ward) {
			at := filepath.Join(w.state, "cert")
			w.must(os.WriteFile(at, []byte("x"), 0o600))
			w.rest = fmt.Sprintf("[http]\nlisten = [\"tls://127.0.0.1:0\"]\ncertificate = %q\nkey = %[1]q\n", at)
		}, doctor.Fail, "certificate", "cert", "does not start"},
		"partner gone": {func(w *ward) {
			w.rest = fmt.Sprintf("[[partner]]\nname = \"p\"\naddress = \"tls://127.0.0.1:1\"\nkey = \"sha256:%s\"\n", strings.Repeat("0", 64))
		}, doctor.Fail, "partner", "p", "connection refused"},
		"partner only calls": {func(w *ward) {
			w.rest = "[[partner]]\nname = \"p\"\nkey = \"sha256:" + strings.Repeat("0", 64) + "\"\n"
		}, doctor.Skipped, "partner", "p", "only calls"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWard(t)
			tc.hurt(w)
			has(t, w.look(), tc.outcome, tc.check, tc.subject, tc.text)
		})
	}
}

// TestEnds: what ends soon is a warning; a certificate that has ended fails, a token does not.
func TestEnds(t *testing.T) {
	w := newWard(t)
	cert := testcert.Until(t, w.state, time.Now().Add(10*24*time.Hour))
	ci := access.Token{Name: "ci", Scopes: []access.Scope{access.Read}, Expires: time.Now().Add(10 * 24 * time.Hour)}
	w.rest = fmt.Sprintf("[http]\nlisten = [\"tls://127.0.0.1:0\"]\ncertificate = %q\nkey = %q\n", cert.File, cert.Key) + ci.Section()
	all := w.look()
	has(t, all, doctor.Warn, "certificate", "cert", "it ends on")
	has(t, all, doctor.Warn, "token", "token ci", "it ends on")
	w.now = func() time.Time { return time.Now().Add(20 * 24 * time.Hour) }
	all = w.look()
	has(t, all, doctor.Fail, "certificate", "cert", "it has ended")
	has(t, all, doctor.Warn, "token", "token ci", "is refused")
	w.now = func() time.Time { return time.Now().Add(-20 * 24 * time.Hour) }
	all = w.look()
	has(t, all, doctor.Fail, "certificate", "cert", "begins only")
	has(t, all, doctor.OK, "token", "token ci", "")
}

// TestSilent: of a partner that takes connections and says nothing, or that nothing is heard of, it is
// told what was tried, how long, and where to look.
func TestSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWard(t)
	w.patience = time.Second
	w.rest = fmt.Sprintf("[[partner]]\nname = \"p\"\naddress = \"tls://%s\"\nkey = \"sha256:%s\"\n", l.Addr(), strings.Repeat("0", 64)) +
		fmt.Sprintf("[[partner]]\nname = \"q\"\naddress = 'exec:[\"/bin/sleep\",\"60\"]'\nkey = \"sha256:%s\"\n", strings.Repeat("1", 64))
	all := w.look()
	has(t, all, doctor.Fail, "partner", "p", fmt.Sprintf("tls://%s was called for 1s: something takes connections there, and then says nothing", l.Addr()))
	has(t, all, doctor.Fail, "partner", "q", "was called for 1s, and does not answer")
	for _, f := range all {
		if f.Check == "partner" && !strings.Contains(f.Do, "look") {
			t.Errorf("%+v", f)
		}
	}
}

// TestLess looks as a user that may do little, with few descriptors.
func TestLess(t *testing.T) {
	w := newWard(t)
	secret := filepath.Join(filepath.Dir(w.root), "secret")
	w.must(os.WriteFile(secret, []byte(`{"user": "u"}`), 0o000), os.Chmod(w.root, 0o555))
	w.rest = fmt.Sprintf("[[bridge]]\nname = \"b\"\nplugin = \"dir\"\nendpoint = \"dir:///tmp\"\ncredentials = \"file:%s\"\n", secret)
	for name, mode := range map[string]os.FileMode{"own": 0o755, "shared": 0o775, "mixed": 0o755} {
		dir := filepath.Join(w.root, name)
		w.must(os.Chmod(w.root, 0o755), os.Mkdir(dir, 0o755), os.Chmod(dir, mode), os.WriteFile(filepath.Join(dir, "a"), nil, 0o644), os.Chmod(w.root, 0o555))
		if os.Getuid() == 0 {
			w.must(os.Chown(dir, nobody, nobody))
			if name != "mixed" {
				w.must(os.Chown(filepath.Join(dir, "a"), nobody, nobody))
			}
		}
		w.rest += fmt.Sprintf("[[folder]]\nname = %q\nrule = \"out\"\npartner = \"b\"\ndir = %[1]q\nclosed = true\n", name)
	}
	file := filepath.Join(filepath.Dir(w.root), "p.toml")
	w.must(os.WriteFile(file, []byte(w.text()), 0o644))
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"="+file)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	w.must(err)
	var all []doctor.Finding
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var f doctor.Finding
		w.must(d.Decode(&f))
		all = append(all, f)
	}
	has(t, all, doctor.Warn, "limit", "open files", "may have 200,")
	has(t, all, doctor.Fail, "root", "rule in", "permission denied")
	has(t, all, doctor.Fail, "secret", "secret", "permission denied")
	has(t, all, doctor.OK, "folder", "own", "can be looked at")
	has(t, all, doctor.Warn, "folder", "shared", "others may write in "+filepath.Join(w.root, "shared"))
	if os.Getuid() == 0 {
		has(t, all, doctor.Warn, "folder", "mixed", "closed = true is of no use for files of other users, of which the kernel tells the node nothing: they wait until they have stayed the same; "+filepath.Join(w.root, "mixed", "a")+" is of user root")
		has(t, all, doctor.Warn, "user", "", "is not seen")
		has(t, all, doctor.Fail, "state", "state", "")
	}
}

// TestForeign: a file in the state directory that is another user's than the directory fails,
// whoever looks.
func TestForeign(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: nothing can be of another user")
	}
	w := newWard(t)
	w.must(os.Chown(w.state, nobody, nobody))
	all := w.look()
	has(t, all, doctor.Fail, "state", "identity.pem", "whose the directory is")
	for _, f := range all {
		if f.Check == "state" && f.Outcome == doctor.Fail && !strings.Contains(f.Do, "chown") {
			t.Errorf("%+v", f)
		}
	}
	w.must(os.Link(filepath.Join(w.state, "identity.pem"), filepath.Join(t.TempDir(), "other")))
	for _, f := range w.look() {
		if f.Check == "state" && f.Outcome == doctor.Fail && (strings.Contains(f.Do, "chown") || !strings.Contains(f.Do, "find / -xdev -samefile /")) {
			t.Errorf("of a file with two names: %+v", f)
		}
	}
	w.must(os.Chown(filepath.Join(w.state, "identity.pem"), nobody, nobody))
	has(t, w.look(), doctor.OK, "state", "identity.pem", "the key is")
}

// TestFormats: the store of an older version is a warning, that of a newer one fails.
func TestFormats(t *testing.T) {
	w := newWard(t)
	path := node.StorePath(w.state)
	s, err := boltstore.Open(boltstore.Config{Path: path})
	w.must(err, s.Close())
	_, now, err := boltstore.Formats(path)
	w.must(err)
	for _, tc := range []struct {
		format uint32
		want   doctor.Outcome
	}{{now - 1, doctor.Warn}, {now + 1, doctor.Fail}, {now, doctor.OK}} {
		db, err := bbolt.Open(path, 0o600, nil)
		w.must(err)
		w.must(db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("meta")).Put([]byte("format"), binary.BigEndian.AppendUint32(nil, tc.format))
		}), db.Close())
		has(t, w.look(), tc.want, "store", "store.db", fmt.Sprintf("format %d", tc.format))
	}
}

// TestClocks: a partner whose clock is another one than this host's is a warning, and is
// reached all the same.
func TestClocks(t *testing.T) {
	w, far := newWard(t), newWard(t)
	key := func(w *ward) string {
		id, err := carrier.LoadIdentity(w.state)
		w.must(err)
		return id.Key()
	}
	far.node = `listen = ["tls://127.0.0.1:0"]`
	far.rest = fmt.Sprintf("[[partner]]\nname = \"n\"\nkey = %q\n", key(w))
	cfg, err := config.Parse("p.toml", []byte(strings.Replace(far.text(), `name = "n"`, `name = "far"`, 1)))
	w.must(err)
	n, err := node.Open(t.Context(), cfg, node.Options{Log: slog.New(slog.DiscardHandler)})
	w.must(err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	defer func() { stop(); w.must(<-ended) }()
	w.rest = fmt.Sprintf("[[partner]]\nname = \"far\"\naddress = %q\nkey = %q\n", n.Addresses()[0], key(far))
	all := w.look()
	has(t, all, doctor.OK, "partner", "far", "round trip")
	for _, f := range all {
		if f.Check == "partner" && f.Outcome != doctor.OK {
			t.Errorf("%+v", f)
		}
	}
	w.now = func() time.Time { return time.Now().Add(time.Hour) }
	has(t, w.look(), doctor.Warn, "partner", "far", "differs from this one's by -")
}

// TestDaemon: with a daemon, it is that one whose store, key and limits are looked at.
func TestDaemon(t *testing.T) {
	w := newWard(t)
	cfg, err := config.Parse("p.toml", []byte(w.text()))
	w.must(err)
	w.must(os.WriteFile(node.StorePath(w.state), nil, 0o600)) // which only the daemon reads
	for _, tc := range []struct {
		problems, warnings int64
		gone               bool
		want               doctor.Outcome
		says               string
	}{{0, 0, false, doctor.OK, ""}, {0, 1, false, doctor.Warn, "1 warnings"}, {1, 0, false, doctor.Fail, "1 errors"}, {0, 0, true, doctor.Fail, "removed while the daemon has it"}} {
		if tc.gone {
			w.must(os.Remove(node.StorePath(w.state)))
		}
		h := patient(cfg)
		h.Daemon = &doctor.Daemon{PID: os.Getpid(), Key: "sha256:1234", Draining: true, Unwritable: map[string]string{"in": "read-only file system", "out": "read-only file system"}, Hints: map[string]string{"box": "raise it"}, Check: func(context.Context) (int64, int64, error) { return tc.problems, tc.warnings, nil }}
		var all []doctor.Finding
		doctor.Look(t.Context(), h, func(f doctor.Finding) { all = append(all, f) })
		has(t, all, tc.want, "store", "store.db", tc.says)
		has(t, all, doctor.Fail, "state", "identity.pem", "another key")
		has(t, all, doctor.Warn, "daemon", "", "draining")
		has(t, all, doctor.Warn, "limit", "folder box", "raise it")
		has(t, all, doctor.Fail, "root", "rule in", "but not by the daemon: read-only file system")
		has(t, all, doctor.Warn, "root", "rule out", "but not by the daemon: read-only file system")
		has(t, all, doctor.Skipped, "address", "node.admin", "the daemon has it")
		has(t, all, doctor.OK, "limit", "open files", fmt.Sprintf("process %d may have", os.Getpid()))
	}
}

// TestDocumented: spec/doctor.md has each check, in their order.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../spec/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(text)) {
		if cell, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(cell, "`")
			rows = append(rows, name)
		}
	}
	if !slices.Equal(rows, doctor.Checks()) {
		t.Errorf("spec/doctor.md has %v, the code %v", rows, doctor.Checks())
	}
}
