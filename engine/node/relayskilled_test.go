package node_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/adminpb"
)

var long = flag.Bool("long", false, "kill each at each moment of each relay: minutes")

// fatal is a moment of a relay: a commit of a node at which it stops, or that so much of a file is there
// which has no name yet.
type fatal struct {
	name         string
	host         string
	when, commit string
	data         func(w *relays, name string) bool
}

// someData is a beginning of a file.
const someData = 256 << 10

var (
	comes  = fatal{name: "bytes come to hosta", data: func(w *relays, _ string) bool { return partly(w.a.Root, someData) }}
	leaves = fatal{name: "bytes come to hostb", data: func(w *relays, _ string) bool { return partly(w.b.Root, someData) }}
	stored = fatal{name: "bytes come to the server", data: func(w *relays, _ string) bool { return partly(w.box, someData) }}
	handed = fatal{name: "bytes come to the client", data: func(w *relays, name string) bool {
		fi, err := os.Stat(filepath.Join(w.dir, name))
		return err == nil && fi.Size() >= someData
	}}
)

func at(host, when, commit string) fatal {
	return fatal{name: when + " it is " + commit + " at " + host, host: host, when: when, commit: commit}
}

// sample is of how many moments of each relay nodes are killed without -long.
const sample = 6

// kinds of relays.
type kind struct {
	name    string
	size    int
	victims []string
	moments []fatal
	refuses bool // no file of its name is replaced
	begin   func(w *relays, k *kind)
	does    func(w *relays, name string, slow bool) (told string, good bool) // what the client does, and is told
	has     func(w *relays, name string) string                              // the path of what is delivered
}

var kinds = []*kind{
	{
		name: "upload", size: 2 << 20, victims: []string{"hosta", "plugin", "client", "hostb"},
		moments: []fatal{at("hosta", before, registered), comes, at("hosta", after, registered), leaves, at("hostb", before, committed), at("hosta", after, concluded), at("hostb", after, committed), at("hosta", before, concluded)},
		begin:   listens, does: uploads, has: atB,
	},
	{
		name: "upload, nothing is replaced", size: 2 << 20, victims: []string{"hosta", "plugin", "client", "hostb"}, refuses: true,
		moments: []fatal{at("hosta", before, registered), comes, at("hosta", after, registered), at("hosta", after, concluded)},
		begin:   listens, does: uploads, has: atB,
	},
	{
		name: "download", size: 2 << 20, victims: []string{"client", "hosta", "plugin", "hostb"},
		moments: []fatal{comes, at("hosta", before, committed), handed, at("hosta", after, committed), at("hosta", after, concluded)},
		begin:   listens,
		does: func(w *relays, name string, slow bool) (string, bool) {
			said, err := w.foreign(false, slow, filepath.Join(w.dir, name), name)
			return said, err == nil
		},
		has: func(w *relays, name string) string { return filepath.Join(w.dir, name) },
	},
	{
		name: "node to bridge", size: 12 << 20, victims: []string{"plugin", "hosta", "server", "hostb"},
		moments: []fatal{stored, at("hosta", before, taskEnded), comes, at("hosta", before, committed), at("hosta", after, concluded), at("hosta", after, committed), at("hosta", before, begun), at("hosta", after, taskEnded), at("hostb", after, concluded)},
		begin: func(w *relays, _ *kind) {
			w.rate = "20MB/s"
			w.begin(rule("out", "send", here+"post = [ { task = \"bridge\", to = \"box:/in/{name}\" }, { task = \"delete\" } ]")+w.bridge(), rule("out", "send", here))
		},
		does: asks("out"),
		has:  func(w *relays, name string) string { return filepath.Join(w.box, "in", name) },
	},
	{
		name: "node from bridge", size: 2 << 20, victims: []string{"server", "plugin", "hosta", "hostb"},
		moments: []fatal{leaves, at("hostb", before, committed), at("hostb", after, committed), at("hosta", after, registered), at("hosta", before, concluded), at("hosta", after, concluded), at("hostb", after, concluded)},
		begin: func(w *relays, _ *kind) {
			w.begin(rule("in", "receive", "root = \"box:/out\"\n")+w.bridge(), rule("in", "receive", here))
		},
		does: asks("in"), has: atB,
	},
}

// listens has hosta serve foreign clients, who send to and take from hostb.
func listens(w *relays, k *kind) {
	out := here
	if k.refuses {
		out += "exists = \"refuse\"\n"
	}
	w.begin(rule("out", "send", out)+rule("in", "receive", here)+w.listener(), rule("out", "send", here)+rule("in", "receive", here))
}

func uploads(w *relays, name string, slow bool) (string, bool) {
	said, err := w.foreign(true, slow, filepath.Join(w.dir, name), name)
	return said, err == nil
}

func atB(w *relays, name string) string { return filepath.Join(w.b.Root, name) }

// asks is who asks hostb for a request, under an id of the name's, and waits for its end, also beyond
// the end of the node.
func asks(rule string) func(w *relays, name string, _ bool) (string, bool) {
	return func(w *relays, name string, _ bool) (string, bool) {
		ctx := w.t.Context()
		client, err := w.b.Client()
		if err != nil {
			return err.Error(), false
		}
		id := fmt.Sprintf("%032x", name)
		id = id[len(id)-32:]
		var r *adminpb.Request
		ended := until(func() bool {
			_, err = client.Submit(ctx, &adminpb.SubmitRequest{Id: id, Partner: "hosta", Rule: rule, Source: name, Target: name})
			if err == nil {
				r, err = client.Wait(ctx, &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: id}})
			}
			return err == nil || ctx.Err() != nil
		})
		if !ended || err != nil {
			return fmt.Sprintf("it has not ended: %v", err), false
		}
		return r.String(), r.GetState() == adminpb.Request_DONE
	}
}

// TestRelaysKilled kills plugin, nodes, foreign client and foreign server at moments of the four relays.
// Who was told that it is done has the whole file at the other end, at that moment; who was not, or
// was told nothing, succeeds by doing it again; or, where nothing is replaced, hears that it is there. Then there is one file, no request is open, and nothing
// unfinished is left; and the file was delivered once, or a second time where spec/plugin.md says so. Without -long each relay has one protocol, and of its moments the first, with one
// victim each.
func TestRelaysKilled(t *testing.T) {
	for i, k := range kinds {
		for j, protocol := range []string{"ftp", "sftp"} {
			if !*long && i%2 != j {
				continue
			}
			t.Run(k.name+", "+protocol, func(t *testing.T) {
				t.Parallel()
				w := newRelays(t, protocol)
				k.begin(w, k)
				for m := range k.moments {
					for v, victim := range k.victims {
						if (*long || m < sample && m%len(k.victims) == v) && !t.Failed() {
							k.killed(w, &k.moments[m], victim, fmt.Sprintf("f%d%d", m, v))
						}
					}
				}
			})
		}
	}
}

// killed is one cell of the table.
func (k *kind) killed(w *relays, m *fatal, victim, name string) {
	t, what := w.t, m.name+", "+victim+" is killed"
	t.Logf("%s: %s", name, what)
	content := make([]byte, k.size)
	_, _ = rand.NewChaCha8([32]byte{name[1], name[2]}).Read(content)
	k.provide(w, name, content)
	if m.data == nil {
		dir := map[string]string{"hosta": w.a.Dir, "hostb": w.b.Dir}[m.host]
		if err := stopAt(dir, m.when, m.commit); err != nil {
			t.Fatal(err)
		}
	}
	w.client.Store(nil)
	type end struct {
		told string
		good bool
	}
	over := make(chan end, 1)
	go func() {
		told, good := k.does(w, name, m.data != nil)
		over <- end{told, good}
	}()
	var is *end
	came := until(func() bool {
		select {
		case e := <-over:
			is = &e
		default:
		}
		return is != nil || m.data != nil && m.data(w, name) || m.host == "hosta" && stopped(w.a.Dir) || m.host == "hostb" && stopped(w.b.Dir)
	})
	switch {
	case !came:
		t.Fatalf("%s: that has not come", what)
	case is != nil && m.data == nil:
		t.Errorf("%s: it was over before: %s", what, is.told)
	case is != nil:
		t.Logf("%s: it was too quick for that", what)
	default:
		w.kill(victim)
	}
	w.mend(victim)
	if is == nil {
		select {
		case e := <-over:
			is = &e
		case <-time.After(2 * patience):
			t.Fatalf("%s: the client has not been told anything", what)
		}
	}
	t.Logf("%s: done: %v", name, is.good)
	whole := func() bool {
		got, err := os.ReadFile(k.has(w, name))
		return err == nil && bytes.Equal(got, content)
	}
	if is.good && !whole() {
		t.Errorf("%s: the client was told that it is done, and it is not: %s", what, is.told)
	}
	most := k.deliveries(m, victim, is.good)
	again := is.good || until(func() bool {
		if is.told, is.good = k.does(w, name, false); is.good {
			return true
		}
		time.Sleep(100 * time.Millisecond)
		return k.refuses && whole() // the client was refused since it is there, and can see that it is
	})
	if !again || !whole() {
		t.Errorf("%s: it does not succeed by doing it again: %s", what, is.told)
	}
	k.clean(w, what, name)
	done, err := requestsAt(t.Context(), w.b, adminpb.Request_DONE)
	done = slices.DeleteFunc(done, func(r *adminpb.Request) bool { return r.GetSource() != name && r.GetTarget() != name })
	if err != nil || len(done) < 1 || len(done) > most {
		t.Errorf("%s: %d requests have delivered it, of at most %d: %v, %v", what, len(done), most, done, err)
	}
}

// deliveries is the most requests that may have the file delivered: two, where a client does again what
// it was not told the end of ("is cut off at the end" of spec/plugin.md, "Listeners"), but not where
// nothing is replaced, nor after a node that died before the first was a request; and who asks by an id
// has one.
func (k *kind) deliveries(m *fatal, victim string, told bool) int {
	if told || k.refuses || strings.HasPrefix(k.name, "node ") || victim == "hosta" && m.when == before && m.commit == registered {
		return 1
	}
	return 2
}

// provide has the file where it comes from.
func (k *kind) provide(w *relays, name string, content []byte) {
	w.t.Helper()
	from := filepath.Join(w.dir, name)
	switch {
	case k.name == "download", k.name == "node to bridge":
		from = filepath.Join(w.b.Root, name)
	case k.name == "node from bridge":
		from = filepath.Join(w.box, "out", name)
	}
	if err := os.WriteFile(from, content, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// clean wants no request to be open, and no file but the one, and removes that.
func (k *kind) clean(w *relays, what, name string) {
	t := w.t
	for _, n := range []string{"hosta", "hostb"} {
		node := w.a
		if n == "hostb" {
			node = w.b
		}
		var left []*adminpb.Request
		var err error
		if !until(func() bool { left, err = openAt(t.Context(), node); return err == nil && len(left) == 0 }) {
			t.Errorf("%s: %s has open requests: %v, %v", what, n, left, err)
		}
	}
	delivered := k.has(w, name)
	dirs := []string{w.a.Root, w.b.Root}
	if w.box != "" {
		dirs = append(dirs, filepath.Join(w.box, "in"), filepath.Join(w.box, "out"))
	}
	for _, dir := range dirs {
		if !until(func() bool { return len(leftovers(dir)) == 0 && !strings.Contains(names(dir), "guest-") }) {
			t.Errorf("%s: left behind: %s", what, names(dir))
		}
		if all := names(dir); all != "" && all != name {
			t.Errorf("%s: %s has %s", what, dir, all)
		}
		_ = os.Remove(filepath.Join(dir, name))
	}
	_, _ = os.Remove(filepath.Join(w.dir, name)), os.Remove(delivered)
}

// TestOneNameTwice: while a request with an uploaded file is open, here because its partner is down, no
// other upload takes its place: each client is told that it is done when its own version has arrived.
func TestOneNameTwice(t *testing.T) {
	for _, protocol := range []string{"ftp", "sftp"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			w := newRelays(t, protocol)
			listens(w, &kind{})
			up := func(version string) (string, bool) {
				local := filepath.Join(w.dir, version)
				if err := os.WriteFile(local, []byte(version), 0o600); err != nil {
					t.Error(err)
				}
				said, err := w.foreign(true, false, local, "x")
				if got, _ := os.ReadFile(atB(w, "x")); err == nil && string(got) != version {
					t.Errorf("told that version %s is there, which is %q", version, got)
				}
				return said, err == nil
			}
			w.b.Kill()
			first := make(chan bool, 1)
			go func() { _, good := up("first"); first <- good }()
			if !until(func() bool { all, err := openAt(t.Context(), w.a); return err == nil && len(all) == 1 }) {
				t.Fatal("the first is no request")
			}
			said, good := up("second")
			if good || protocol == "ftp" && !strings.Contains(said, "451") {
				t.Errorf("the second, meanwhile: %v, %s", good, said)
			}
			w.start(w.b)
			select {
			case good := <-first:
				if !good {
					t.Error("the first has failed")
				}
			case <-time.After(patience):
				t.Fatal("the first has not ended")
			}
			if said, good := up("second"); !good {
				t.Errorf("the second, again: %s", said)
			}
		})
	}
}
