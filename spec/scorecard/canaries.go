package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/engine/objects"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

var canaries = check{
	id: 40, title: "canaries in the node's key, its environment, its paths, literal arguments, file content and what commands print, in what bridges log in with and foreign clients are known by, in tokens, sessions, keys the node has made, and what it proves itself with to webhooks, mail, push and traces: none is in a log, an answer to operators, an error or a store at the partner, a backup, a command's or a plugin's environment, a crash's trace or on the wire, but where the documents say so",
	unit: "hits", n: counts{reduced: 1, full: 10},
	mutant:  "commands get the daemon's environment; the partner reads an error as the operator does; the environment is logged; so is what a bridge logs in with, what a client types and what proves who pushes; the audit log has orders as they came",
	several: []string{"environment", "told", "log", "login", "guest", "header", "audit"},
	edits: []edit{
		{"engine/task/exec.go", "	slices.Sort(env)\n	return env\n", "	if mutant(\"40 environment\") {\n		env = append(env, syscall.Environ()...)\n	}\n	slices.Sort(env)\n	return env\n"},
		{"spec/fault/text.go", "	s := public(err)\n", "	s := public(err)\n	if mutant(\"40 told\") {\n		s = Plain(err)\n	}\n"},
		{"engine/node/node.go", "	n.key = id.Key()\n", "	n.key = id.Key()\n	if mutant(\"40 log\") {\n		n.log.Debug(\"environment\", \"all\", os.Environ())\n	}\n"},
		{"plugins/host/plugin.go", "	limited, done := limit(ctx, run.cfg.Call)\n	defer done()\n	calling,", "	limited, done := limit(ctx, run.cfg.Call)\n	defer done()\n	if mutant(\"40 login\") {\n		run.cfg.Log.Debug(\"log in\", \"to\", to)\n	}\n	calling,"},
		{"engine/guest/node.go", "\"from\", fault.Shown(from), \"why\", err)\n", "\"from\", fault.Shown(from), \"why\", err, \"with\", map[bool]string{true: who.Password}[mutant(\"40 guest\")])\n"},
		{"engine/push/push.go", "	reply, err := p.cfg.Client.Do(req)\n", "	if mutant(\"40 header\") {\n		p.cfg.Log.Debug(\"push\", \"header\", req.Header)\n	}\n	reply, err := p.cfg.Client.Do(req)\n"},
		{"engine/admin/audit.go", "detail(s.recorded(m))\n", "detail(s.recorded(m))\n		if mutant(\"40 audit\") {\n			e.Detail = detail(m)\n		}\n"},
	},
	run: runCanaries,
}

// canaryRun is one pair of daemons with secrets, and what is looked for where.
type canaryRun struct {
	*fleet
	*note
	j       *job
	program string // pannier, for what its commands print
	secrets []canary
	wire    *tapped
	ids     []string
	places  int
}

func runCanaries(ctx context.Context, j *job) (result, error) {
	var w note
	program := filepath.Join(j.dir, "pannier")
	if err := buildPannier(ctx, j, program); err != nil {
		return result{}, err
	}
	places, secrets := 0, 0
	for i := range j.n {
		r := &canaryRun{note: &w, j: j, program: program}
		for _, part := range []struct {
			dir string
			run func(context.Context, string) error
		}{{"", r.run}, {"bridges", r.runBridges}, {"services", r.runServices}} {
			if j.broken && w.n > 0 {
				break // it is found
			}
			if err := part.run(ctx, filepath.Join(j.dir, part.dir+fmt.Sprint(i))); err != nil {
				return result{}, err
			}
		}
		places, secrets = places+r.places, secrets+len(r.secrets)
	}
	return w.result(float64(w.n), "%d secrets looked for in %d places", secrets, places), nil
}

// buildPannier builds the commands, with the mutant in them.
func buildPannier(ctx context.Context, j *job, at string) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	args := []string{"build", "-o", at}
	if j.overlay != "" {
		args = append(args, "-overlay="+j.overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/pannier")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fault.New("build pannier", fault.Invalid, "%v: %s", err, out)
	}
	return nil
}

func (r *canaryRun) run(ctx context.Context, dir string) (err error) {
	if r.fleet, err = newFleet(dir, 2); err != nil {
		return err
	}
	defer r.close()
	if err := r.prepare(); err != nil {
		return err
	}
	defer r.wire.close()
	if err := r.start(ctx); err != nil {
		return err
	}
	if err := r.trouble(ctx); err != nil {
		return err
	}
	for i := range r.all {
		if err := r.operators(ctx, i); err != nil {
			return err
		}
	}
	r.crash()
	r.files()
	r.search("the wire", "wire", -1, r.wire.bytes())
	r.blind()
	return nil
}

// Where a canary may be, of the node it belongs to: in what that node tells its own
// operators, who may read it anyway; in its files; in the arguments of its commands; where objects
// are told and kept as they were written, tokens as their digests.
const (
	toOperators = 1 << iota
	inFiles
	inArguments
	inObjects
)

// canary is one secret.
type canary struct {
	what  string
	node  int // that it belongs to; the file's content is at both
	may   int
	forms []string // ways to write it
	seen  bool     // where it may be, so that the search is not blind
}

// places that a search can look at. What callers may only read, and what is on the wire, has none.
var placeAllows = map[string]int{"operators": toOperators, "store": toOperators, "files": inFiles, "arguments": inArguments, "objects": inObjects}

// placeOf is the place that a file of the state directory is, live or in a backup.
func placeOf(path string) string {
	if filepath.Base(path) == objects.File {
		return "objects"
	}
	return "store"
}

// ownKeys are the files of a state directory that hold its private keys.
var ownKeys = []string{"identity.pem", "http.pem", "audit/audit.key"}

// prepare makes secrets, and nodes that have them.
func (r *canaryRun) prepare() error {
	word := func(what string, node, may int) string {
		text := fmt.Sprintf("canary%016x%016x", r.j.rnd.Uint64(), r.j.rnd.Uint64())
		r.secrets = append(r.secrets, canary{what: what, node: node, may: may, forms: formsOf([]byte(text))})
		return text
	}
	content := word("content", -1, inFiles)
	self, err := os.Executable()
	if err != nil {
		return fault.Wrap("find program", "", err)
	}
	var partner *nodetest.Node
	for i := 1; i >= 0; i-- {
		n := r.all[i]
		n.Env = []string{"PANNIER_CANARY=" + word("environment", i, 0), "CREDENTIAL=" + word("environment", i, 0)}
		n.Root = filepath.Join(n.Dir, word("path", i, toOperators), "files")
		if err := n.Identify(); err != nil {
			return err
		}
		id, err := carrier.LoadOrCreateIdentity(n.State)
		if err != nil {
			return err
		}
		secret, err := secretOf(id)
		if err != nil {
			return err
		}
		r.secrets = append(r.secrets, canary{what: "key", node: i, forms: formsOf(secret)})
		if err := r.rootOf(n, content); err != nil {
			return err
		}
		argument := word("argument", i, inArguments)
		tells := argvOf("", "/bin/sh", "-c", "cat "+filepath.Join(n.Root, "said")+"; cat "+filepath.Join(n.Root, "said")+" >&2; exit 3", argument)
		// commands of a failed request get its cause, which has what a command said last
		if err := os.WriteFile(filepath.Join(n.Root, "said"), []byte(word("output", i, toOperators|inFiles|inArguments)), 0o600); err != nil {
			return fault.Wrap("make file", "said", err)
		}
		seen := filepath.Join(r.j.dir, fmt.Sprint("seen", i))
		if err := os.MkdirAll(seen, 0o700); err != nil {
			return fault.Wrap("make folder", seen, err)
		}
		saw := argvOf("", self, roleChild, seen, "--", argument, "{name}")
		if err := r.configure(i, saw, tells, partner); err != nil {
			return err
		}
		partner = n
	}
	return nil
}

// configure writes the configuration of a node. n0 reaches n1 through a wire that is
// listened to, and under a wrong key, too.
func (r *canaryRun) configure(i int, saw, tells string, partner *nodetest.Node) (err error) {
	rules := pushRule("push", "retry = { attempts = 1 }\npost = ["+saw+"]") +
		pushRule("sends", "sender = { pre = ["+tells+"], error = ["+saw+"] }") +
		pushRule("takes", "receiver = { pre = ["+tells+"] }\nretry = { attempts = 1 }") +
		pushRule("stored", "receiver = { post = ["+tells+"] }\nretry = { attempts = 1 }") +
		pushRule("digest", "receiver = { post = [ { task = \"check\", digest = \"sha256:"+strings.Repeat("00", 32)+"\" } ] }\nretry = { attempts = 1 }") +
		"[[rule]]\nname = \"pull\"\ndirection = \"receive\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\nretry = { attempts = 1 }\n"
	n := r.all[i]
	settings := []string{`drain = "1s"`, `log = "debug"`}
	if i == 1 {
		caller := *r.all[0]
		caller.Address = "tls://127.0.0.1:1" // it only calls
		return n.Write(settings, nil, rules, &caller)
	}
	if r.wire, err = tap(strings.TrimPrefix(partner.Address, "tls://")); err != nil {
		return err
	}
	through, other := *partner, *partner
	through.Address = r.wire.address
	other.Name, other.Address, other.Key = "other", r.wire.address, "sha256:"+strings.Repeat("00", 32)
	return n.Write(settings, nil, rules+pushRule("only0", ""), &through, &other)
}

// rootOf makes what requests are for: a file, a link that leads out, a directory.
func (r *canaryRun) rootOf(n *nodetest.Node, content string) error {
	err := os.WriteFile(filepath.Join(n.Root, "file"), []byte(strings.Repeat(content+"\n", 10_000)), 0o600)
	return fault.Wrap("make files", "", errors.Join(err,
		os.WriteFile(filepath.Join(n.Root, "unreadable"), []byte(content), 0),
		os.Symlink(filepath.Join(n.State, "identity.pem"), filepath.Join(n.Root, "link")),
		os.Mkdir(filepath.Join(n.Root, "directory"), 0o700)))
}

// trouble is requests that go well, and that fail in as many ways as there are
// words for, at either end; partners with a wrong key; strangers.
func (r *canaryRun) trouble(ctx context.Context) error {
	for _, q := range []struct{ rule, source, target string }{
		{"push", "file", "arrived"}, {"pull", "file", "fetched"}, {"sends", "file", "a"}, {"takes", "file", "b"}, {"stored", "file", "c"}, {"digest", "file", "d"},
		{"push", "link", "e"}, {"pull", "link", "f"}, {"push", "absent", "g"}, {"pull", "absent", "h"}, {"push", "directory", "i"}, {"pull", "directory", "j"},
		{"push", "file", "file/k"}, {"push", "file", "directory"}, {"pull", "file", "file/l"}, {"only0", "file", "m"}, {"pull", "unreadable", "n"},
	} {
		id, err := r.submit(ctx, r.all[1], q.rule, q.source, q.target, "")
		if err != nil {
			r.search("refusal at n0", "operators", 0, []byte(err.Error()))
			continue
		}
		r.ids = append(r.ids, id)
	}
	c, err := r.all[0].Client()
	if err != nil {
		return err
	}
	for _, id := range r.ids {
		for end := time.Now().Add(finishLimit); ; {
			q, err := c.Wait(ctx, &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: id}, Timeout: durationpb.New(200 * time.Millisecond)})
			if err != nil {
				return err
			}
			if s := q.GetState(); s == adminpb.Request_DONE || s == adminpb.Request_INERROR {
				break
			}
			if time.Now().After(end) {
				return fault.New("wait for requests", fault.Deadline, "%v", q)
			}
			_, _ = c.Resume(ctx, &adminpb.Ref{Id: id}) // whatever its back-off
		}
	}
	for _, name := range []string{"n1", "other", "nobody"} {
		p, err := c.TestPartner(ctx, &adminpb.TestPartnerRequest{Partner: name})
		r.search("test of "+name, "operators", 0, fmt.Appendf(nil, "%v %v", p, err))
	}
	return r.stranger(ctx)
}

// stranger calls n1 with a key that nobody knows.
func (r *canaryRun) stranger(ctx context.Context) error {
	id, err := carrier.NewIdentity()
	if err != nil {
		return err
	}
	pins, err := carrier.ParsePins(r.all[1].Key)
	if err != nil {
		return err
	}
	cc, err := rpc.Dial(r.all[1].Address, rpc.ClientConfig{Identity: id, Pins: pins})
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = put(ctx, cc, "x")
	if err == nil {
		r.add("a stranger's call was answered")
	}
	r.search("answer to a stranger", "wire", 1, fmt.Append(nil, err))
	return nil
}

// operators looks at all that the node tells its operators: each answer of the
// service, each command in each format, the log until now, a backup.
func (r *canaryRun) operators(ctx context.Context, i int) error {
	n := r.all[i]
	c, err := n.Client()
	if err != nil {
		return err
	}
	answer := func(what string, m proto.Message, err error) {
		text, _ := protojson.Marshal(m)
		r.search(what, "operators", i, fmt.Appendf(text, " %v", err))
	}
	node, err := c.NodeInfo(ctx, &adminpb.NodeInfoRequest{})
	answer("NodeInfo", node, err)
	partners, err := c.ListPartners(ctx, &adminpb.ListPartnersRequest{})
	answer("ListPartners", partners, err)
	rules, err := c.ListRules(ctx, &adminpb.ListRulesRequest{})
	answer("ListRules", rules, err)
	reload, err := c.Reload(ctx, &adminpb.ReloadRequest{})
	answer("Reload", reload, err)
	for _, id := range r.ids {
		ref := &adminpb.Ref{Id: id}
		q, err := c.Get(ctx, ref)
		answer("Get", q, err)
		events, err := c.Events(ctx, ref)
		answer("Events", events, err)
		why, err := c.Explain(ctx, ref)
		answer("Explain", why, err)
		steps, err := c.Timeline(ctx, &adminpb.TimelineRequest{Ref: ref})
		answer("Timeline", steps, err)
		log, err := c.Log(ctx, ref)
		answer("Log", log, err)
		for _, args := range [][]string{{"show", id}, {"show", "--json", id}, {"events", id}, {"events", "--json", id}, {"explain", id}, {"timeline", id}, {"show", "--log", id}, {"explain", "--json", id}} {
			_, _ = r.command(ctx, i, args...) // many are to fail
		}
	}
	for _, args := range [][]string{{"ls"}, {"ls", "--json"}, {"status"}, {"status", "--json"}, {"partner", "list"}, {"rule", "list"}, {"check"}, {"id"}, {"config", "check"},
		{"get", "n1:absent", filepath.Join(n.Root, "x"), "--rule", "pull", "--wait"}} {
		_, _ = r.command(ctx, i, args...)
	}
	var b bytes.Buffer
	if err := backupTo(ctx, c, &b); err != nil {
		return err
	}
	return r.unpacked(b.Bytes(), i)
}

// unpacked looks at each file of a backup, which is compressed.
func (r *canaryRun) unpacked(b []byte, i int) error {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return fault.Wrap("read backup", "", err)
	}
	for _, f := range z.File {
		in, err := f.Open()
		if err != nil {
			return fault.Wrap("read backup", f.Name, err)
		}
		text, err := io.ReadAll(in)
		if err = errors.Join(err, in.Close()); err != nil {
			return fault.Wrap("read backup", f.Name, err)
		}
		if slices.Contains(ownKeys, f.Name) {
			r.add("a backup without keys has %s", f.Name)
		}
		r.search("a backup's "+f.Name, placeOf(f.Name), i, text)
	}
	return nil
}

// command looks at what one prints.
func (r *canaryRun) command(ctx context.Context, i int, args ...string) (out []byte, err error) {
	out, err = r.output(ctx, i, args...)
	r.search("pannier "+strings.Join(args, " "), "operators", i, out)
	return out, err
}

// output is what a command prints.
func (r *canaryRun) output(ctx context.Context, i int, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.program, append(args, "--admin", r.all[i].Admin(), "--config", r.all[i].Config())...)
	cmd.Env = append(os.Environ(), r.all[i].Env[1]) // an operator's shell may have it, too
	return cmd.CombinedOutput()
}

func backupTo(ctx context.Context, c *admin.Client, w io.Writer) error {
	stream, err := c.Backup(ctx, &adminpb.BackupRequest{})
	if err != nil {
		return err
	}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(chunk.GetData()); err != nil {
			return err
		}
	}
}

// crash has both daemons die as a runtime error does, with all goroutines in their
// logs.
func (r *canaryRun) crash() {
	for i, n := range r.all {
		_ = syscall.Kill(n.PID(), syscall.SIGQUIT)
		<-n.Ended()
		if !strings.Contains(r.log(i), "goroutine ") {
			r.add("n%d has left no trace", i)
		}
		r.search("the log", "operators", i, []byte(r.log(i)))
	}
}

// files looks at all that is on the disk, and at what commands were started with.
func (r *canaryRun) files() {
	for i, n := range r.all {
		_ = filepath.WalkDir(n.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || path == n.Config() || d.Name() == "log" {
				return err
			}
			if slices.ContainsFunc(ownKeys, func(name string) bool { return path == filepath.Join(n.State, name) }) {
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				r.add("%v", err)
			}
			place := placeOf(path)
			if strings.HasPrefix(path, n.Root) {
				place = "files"
			}
			r.search(filepath.Base(path), place, i, text)
			return nil
		})
		all, _ := filepath.Glob(filepath.Join(r.j.dir, fmt.Sprint("seen", i), "seen*"))
		if len(all) == 0 {
			r.add("n%d has started no command", i)
		}
		for _, f := range all {
			text, _ := os.ReadFile(f)
			r.search("a command", "arguments", i, text)
		}
	}
}

// search notes each canary that is in a text of a node, and may not.
func (r *canaryRun) search(what, place string, node int, text []byte) {
	r.places++
	for i := range r.secrets {
		c := &r.secrets[i]
		if !slices.ContainsFunc(c.forms, func(form string) bool { return strings.Contains(string(text), form) }) {
			continue
		}
		if (c.node < 0 || c.node == node) && c.may&placeAllows[place] != 0 {
			c.seen = true
			continue
		}
		r.add("%s of n%d is in %s of n%d", c.what, c.node, what, node)
	}
}

// blind notes canaries that were found nowhere though they had to be.
func (r *canaryRun) blind() {
	for _, c := range r.secrets {
		if c.may != 0 && !c.seen {
			r.add("%s of n%d was found nowhere: the search is blind", c.what, c.node)
		}
	}
}

// tapped is a wire that is listened to.
type tapped struct {
	address string
	l       net.Listener
	mu      sync.Mutex
	heard   []byte
	conns   []net.Conn
}

// tap carries connections to an address of the loopback device.
func tap(to string) (*tapped, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fault.Wrap("tap wire", to, err)
	}
	t := &tapped{address: "tls://" + l.Addr().String(), l: l}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			t.mu.Lock()
			t.conns = append(t.conns, in, out)
			t.mu.Unlock()
			go t.carry(out, in)
			go t.carry(in, out)
		}
	}()
	return t, nil
}

func (t *tapped) carry(to, from net.Conn) {
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		t.mu.Lock()
		t.heard = append(t.heard, b[:n]...)
		t.mu.Unlock()
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (t *tapped) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.heard)
}

func (t *tapped) close() {
	_ = t.l.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.conns {
		_ = c.Close()
	}
}
