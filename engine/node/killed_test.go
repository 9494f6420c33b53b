package node_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/engine/task/catalogue"
	"github.com/pannier/pannier/engine/task/crypt"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/flowtest/testcert"
	"github.com/pannier/pannier/spec/adminpb"
)

// victim is a node, its own partner, that dies at a task of a request and is started again.
type victim struct {
	t      *testing.T
	node   *nodetest.Node
	log    *flowtest.Log
	at     place
	moment string
	id     string      // of the request
	out    string      // its file where the task runs, below the root: the source, or the target
	hold   atomic.Bool // the next who asks a server gets no answer: its node dies meanwhile
}

// place is a list of one end of a request.
type place struct{ side, list string }

// places are those at whose tasks a node dies, with the moments.
var places = map[place][]string{
	{"receiver", "post"}:  moments,
	{"sender", "pre"}:     {during, before},
	{"sender", "post"}:    {before},
	{"receiver", "pre"}:   {before},
	{"sender", "error"}:   {before},
	{"receiver", "error"}: {before},
}

var moments = []string{during, before, after}

// mortal is a task of the catalogue: a list in which it comes first, and what is true after its
// node has died at it and the request has ended.
type mortal struct {
	list    string  // its text
	noFile  bool    // it needs none
	only    []place // at each moment; none: it may be everywhere
	more    string  // of the configuration
	content []byte  // of the file; default: plenty
	sign    string  // that it runs; default: atOnce
	ready   func(*victim)
	died    func(*victim)     // between the death and the next start
	holds   func(*victim)     // at last
	seen    func(*victim) int // how often others have seen the task run; nil: nobody does
	failed  bool              // the request is to fail
	again   bool              // the list runs more than once, whoever dies
}

// at are the moments at a place; none: the task is not there. A receiver's pre tasks run before there
// is a file.
func (m *mortal) at(p place) []string {
	switch {
	case slices.Contains(m.only, p):
		return moments
	case m.only != nil, !m.noFile && p == place{"receiver", "pre"}:
		return nil // TestTasksEverywhere of engine has what becomes of it
	}
	return places[p]
}

func (v *victim) path(name string) string { return filepath.Join(v.node.Root, name) }

// is wants a file of that content.
func (v *victim) is(name string, want []byte) {
	v.t.Helper()
	got, err := os.ReadFile(v.path(name))
	if err != nil || !bytes.Equal(got, want) {
		v.t.Errorf("%s: %s has %d bytes, want %d: %v", v.moment, name, len(got), len(want), err)
	}
}

func (v *victim) none(name string) {
	v.t.Helper()
	if _, err := os.Stat(v.path(name)); err == nil {
		v.t.Errorf("%s: there is %s", v.moment, name)
	}
}

func (v *victim) put(name, content string) {
	v.t.Helper()
	if err := os.WriteFile(v.path(name), []byte(content), 0o600); err != nil {
		v.t.Fatal(err)
	}
}

// beside is a file beside the configuration.
func (v *victim) beside(name string) string { return filepath.Join(v.node.Dir, name) }

// heldUp says that a task runs, if this is the first time that it does and its node is to die
// then.
func (v *victim) heldUp() bool {
	if !v.hold.CompareAndSwap(true, false) {
		return false
	}
	_ = os.WriteFile(v.beside(running), nil, 0o600)
	return true
}

// counter counts what comes to a server, by what names it.
type counter struct {
	mu sync.Mutex
	of map[string]int
}

func (c *counter) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.of[name]++
}

// same is how often one name has come, of which there is one.
func (c *counter) same(t *testing.T) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for name, times := range c.of {
		if n = times; len(c.of) > 1 {
			t.Errorf("there are %d: %s", len(c.of), name)
		}
	}
	c.of = nil
	return n
}

// tcp is a server, to whose clients do speaks. The first one while the task is to be killed hears
// nothing.
func (v *victim) tcp(cfg *tls.Config, do func(io.Writer, *bufio.Reader)) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		v.t.Fatal(err)
	}
	if cfg != nil {
		l = tls.NewListener(l, cfg)
	}
	var all sync.WaitGroup
	v.t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				if v.heldUp() {
					_, _ = io.Copy(io.Discard, c) // until its node is dead
					return
				}
				do(c, bufio.NewReader(c))
			})
		}
	})
	return l.Addr().String()
}

// plenty is content that takes tasks a moment: lines of text that are all different.
var plenty = func() []byte {
	var b bytes.Buffer
	for i := range 20_000 {
		fmt.Fprintf(&b, "%d: %x\n", i, sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
	}
	return b.Bytes()
}()

func zipped(content []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(content)
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func tarred(name string, content []byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Format: tar.FormatPAX})
	_, err1 := w.Write(content)
	if err = errors.Join(err, err1, w.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// mortals are all tasks, each made for a victim.
var mortals = map[string]func(*victim) mortal{
	"log": func(v *victim) mortal {
		return mortal{noFile: true, list: `{ task = "log", text = "told of {id}" }`, seen: func(v *victim) int { return strings.Count(v.log.String(), "told of "+v.id) }}
	},
	"exec": func(v *victim) mortal {
		return mortal{noFile: true, list: `{ task = "exec", argv = ["/bin/sh", "-c", "echo $PANNIER_TASK >> ../runs; touch ../running; sleep 0.2"] }`, sign: running,
			seen: func(v *victim) int {
				text, _ := os.ReadFile(v.beside("runs"))
				os.Remove(v.beside("runs"))
				keys := strings.Fields(string(text))
				if slices.Sort(keys); len(slices.Compact(slices.Clone(keys))) != 1 {
					v.t.Errorf("%s: not one key: %q", v.moment, keys)
				}
				return len(keys)
			}}
	},
	"move": func(v *victim) mortal {
		return mortal{list: `{ task = "move", to = "moved/{name}" }`, holds: func(v *victim) { v.is("moved/"+v.out, plenty); v.none(v.out) }}
	},
	"rename": func(v *victim) mortal {
		return mortal{list: `{ task = "rename", to = "renamed-{name}" }`, holds: func(v *victim) { v.is("renamed-"+v.out, plenty); v.none(v.out) }}
	},
	"copy": func(v *victim) mortal {
		return mortal{list: `{ task = "copy", to = "copies/{name}" }`, sign: unfinished, holds: func(v *victim) { v.is("copies/"+v.out, plenty); v.is(v.out, plenty) }}
	},
	"link": func(v *victim) mortal {
		return mortal{list: `{ task = "link", to = "links/{name}" }`, holds: func(v *victim) {
			one, err1 := os.Stat(v.path(v.out))
			two, err2 := os.Stat(v.path("links/" + v.out))
			if err1 != nil || err2 != nil || !os.SameFile(one, two) {
				v.t.Error(v.moment, err1, err2)
			}
		}}
	},
	"delete": func(v *victim) mortal {
		return mortal{list: `{ task = "delete" }`, failed: v.at == place{"sender", "pre"}, holds: func(v *victim) { v.none(v.out) }}
	},
	"mkdir": func(v *victim) mortal {
		return mortal{noFile: true, list: `{ task = "mkdir", path = "made/{id}/deep" }`, holds: func(v *victim) {
			if fi, err := os.Stat(v.path("made/" + v.id + "/deep")); err != nil || !fi.IsDir() {
				v.t.Error(v.moment, err)
			}
		}}
	},
	"chmod": func(v *victim) mortal {
		return mortal{list: `{ task = "chmod", mode = "0640" }`, holds: func(v *victim) {
			if fi, err := os.Stat(v.path(v.out)); err != nil || fi.Mode().Perm() != 0o640 {
				v.t.Error(v.moment, fi, err)
			}
		}}
	},
	"check": func(v *victim) mortal {
		return mortal{list: `{ task = "check", min_size = 1000, digest = "sha256:` + fmt.Sprintf("%x", sha256.Sum256(plenty)) + `" }`}
	},
	"wait": func(v *victim) mortal {
		here := func(v *victim) { v.put("ready-"+v.out, "") }
		return mortal{noFile: true, list: `{ task = "wait", path = "ready-{name}" }`, died: here, ready: func(v *victim) {
			if v.moment != during {
				here(v)
			}
		}}
	},
	"checksum": func(v *victim) mortal {
		return mortal{list: `{ task = "checksum", to = "{path}.sum" }`, holds: func(v *victim) {
			v.is(v.out+".sum", fmt.Appendf(nil, "%x  %s\n", sha256.Sum256(plenty), v.out))
		}}
	},
	"verify": func(v *victim) mortal {
		return mortal{list: `{ task = "verify", path = "sums" }`, ready: func(v *victim) { v.put("sums", fmt.Sprintf("%x  %s\n", sha256.Sum256(plenty), v.out)) }}
	},
	"snapshot": func(v *victim) mortal {
		return mortal{noFile: true, list: `{ task = "snapshot", to = "snaps/{id}.json" }`, holds: func(v *victim) {
			var told task.Told
			text, err := os.ReadFile(v.path("snaps/" + v.id + ".json"))
			if err = errors.Join(err, json.Unmarshal(text, &told)); err != nil || told.ID != v.id || told.List != v.at.list {
				v.t.Errorf("%s: %v, %s", v.moment, err, text)
			}
		}}
	},
	"receipt": func(v *victim) mortal {
		return mortal{only: []place{{"receiver", "post"}}, list: `{ task = "receipt", to = "receipts/{id}" }`, holds: func(v *victim) {
			text, err := os.ReadFile(v.path("receipts/" + v.id))
			if err == nil {
				var s crypt.Statement
				if s, _, err = crypt.Verify(text, v.node.Key); err == nil && s.ID != v.id {
					err = errors.New("it is of " + s.ID)
				}
			}
			if err != nil {
				v.t.Error(v.moment, err)
			}
		}}
	},
	"archive": func(v *victim) mortal {
		return mortal{list: `{ task = "archive", to = "packed/{id}.tar", remove = true }`, sign: unfinished, holds: func(v *victim) {
			f, err := os.Open(v.path("packed/" + v.id + ".tar"))
			if err != nil {
				v.t.Error(v.moment, err)
				return
			}
			defer f.Close()
			r := tar.NewReader(f)
			h, err := r.Next()
			if err != nil || h.Name != v.out {
				v.t.Errorf("%s: %v, %v", v.moment, h, err)
				return
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plenty) {
				v.t.Errorf("%s: %d bytes, %v", v.moment, len(got), err)
			}
			v.none(v.out)
		}}
	},
	"extract": func(v *victim) mortal {
		return mortal{list: `{ task = "extract", format = "tar", to = "unpacked/{id}", remove = true }`, content: tarred("a", plenty), sign: unfinished, failed: v.at == place{"sender", "pre"}, holds: func(v *victim) { v.is("unpacked/"+v.id+"/a", plenty); v.none(v.out) }}
	},
	"compress": func(v *victim) mortal {
		return mortal{list: `{ task = "compress", format = "gzip", remove = true }`, sign: unfinished, holds: func(v *victim) {
			f, err := os.Open(v.path(v.out + ".gz"))
			if err != nil {
				v.t.Error(v.moment, err)
				return
			}
			defer f.Close()
			r, err := gzip.NewReader(f)
			if err == nil {
				var got []byte
				if got, err = io.ReadAll(r); err == nil && !bytes.Equal(got, plenty) {
					err = errors.New("it is another file")
				}
			}
			if err != nil {
				v.t.Error(v.moment, err)
			}
			v.none(v.out)
		}}
	},
	"decompress": func(v *victim) mortal {
		return mortal{list: `{ task = "decompress", to = "{path}.plain", remove = true }`, content: zipped(plenty), sign: unfinished, holds: func(v *victim) { v.is(v.out+".plain", plenty); v.none(v.out) }}
	},
	"transcode": func(v *victim) mortal {
		return mortal{list: `{ task = "transcode", newline = "crlf", to = "{path}.dos", remove = true }`, sign: unfinished, holds: func(v *victim) {
			v.is(v.out+".dos", bytes.ReplaceAll(plenty, []byte("\n"), []byte("\r\n")))
			v.none(v.out)
		}}
	},
	"encrypt": func(v *victim) mortal {
		key := v.identity()
		return mortal{list: `{ task = "encrypt", recipients = "file:` + v.beside("recipients") + `", to = "{path}.age", remove = true }`, sign: unfinished, holds: func(v *victim) {
			f, err := os.Open(v.path(v.out + ".age"))
			if err != nil {
				v.t.Error(v.moment, err)
				return
			}
			defer f.Close()
			r, err := age.Decrypt(f, key)
			if err == nil {
				var got []byte
				if got, err = io.ReadAll(r); err == nil && !bytes.Equal(got, plenty) {
					err = errors.New("it is another file")
				}
			}
			if err != nil {
				v.t.Error(v.moment, err)
			}
			v.none(v.out)
		}}
	},
	"decrypt": func(v *victim) mortal {
		var b bytes.Buffer
		w, err := age.Encrypt(&b, v.identity().Recipient())
		if err == nil {
			_, err = w.Write(plenty)
			err = errors.Join(err, w.Close())
		}
		if err != nil {
			v.t.Fatal(err)
		}
		return mortal{list: `{ task = "decrypt", identities = "file:` + v.beside("identities") + `", to = "{path}.plain", remove = true }`, content: b.Bytes(), sign: unfinished, holds: func(v *victim) { v.is(v.out+".plain", plenty); v.none(v.out) }}
	},
	"icap": func(v *victim) mortal {
		c := &counter{}
		address := v.tcp(nil, func(w io.Writer, r *bufio.Reader) {
			readHead(r) // OPTIONS
			_, _ = io.WriteString(w, "ICAP/1.0 200 OK\r\nMethods: RESPMOD\r\nAllow: 204\r\nEncapsulated: null-body=0\r\n\r\n")
			for range 3 { // ICAP's, and those of the request and the answer in it
				if readHead(r) == "" {
					return
				}
			}
			if n, err := io.Copy(io.Discard, httputil.NewChunkedReader(r)); err == nil && n == int64(len(plenty)) {
				c.add("scan")
			}
			_, _ = io.WriteString(w, "ICAP/1.0 204 No Content\r\n\r\n")
		})
		return mortal{list: `{ task = "icap", url = "icap://` + address + `/scan" }`, sign: running, seen: func(v *victim) int { return c.same(v.t) }}
	},
	"http": func(v *victim) mortal {
		c := &counter{}
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			c.add(r.Header.Get("Webhook-Id"))
			if v.heldUp() {
				<-r.Context().Done()
			}
		}))
		v.t.Cleanup(s.Close)
		return mortal{noFile: true, list: `{ task = "http", url = "` + s.URL + `", required = true }`, sign: running, seen: func(v *victim) int { return c.same(v.t) }}
	},
	"mail": func(v *victim) mortal {
		c := &counter{}
		cert := testcert.New(v.t, v.node.Dir, "127.0.0.1")
		address := v.tcp(cert.Server, func(w io.Writer, r *bufio.Reader) { c.postOffice(w, r) })
		return mortal{noFile: true, list: `{ task = "mail", url = "smtps://` + address + `", ca = "file:` + cert.File + `", from = "a@example.org", to = "b@example.org", required = true }`, sign: running, seen: func(v *victim) int { return c.same(v.t) }}
	},
	"bridge": func(v *victim) mortal {
		box := v.beside("box")
		if err := os.Mkdir(box, 0o700); err != nil {
			v.t.Fatal(err)
		}
		return mortal{list: `{ task = "bridge", to = "box:/{name}" }`, more: fmt.Sprintf("[[bridge]]\nname = \"box\"\nplugin = \"dir\"\nendpoint = \"dir://%s\"\n", box), holds: func(v *victim) {
			got, err := os.ReadFile(filepath.Join(box, v.out))
			if err != nil || !bytes.Equal(got, plenty) {
				v.t.Errorf("%s: the server has %d bytes, %v", v.moment, len(got), err)
			}
		}}
	},
	"transfer": func(v *victim) mortal {
		return mortal{list: `{ task = "transfer", partner = "hosta", rule = "next", wait = true }`, more: "[[rule]]\nname = \"next\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\n[rule.receiver]\npost = [ { task = \"copy\", to = \"next/{name}\" } ]\n",
			holds: func(v *victim) {
				v.is("next/"+v.out, plenty)
				if all := v.list(&adminpb.ListRequest{Rule: "next", Follow: v.id}); len(all) != 2 || all[0].GetId() != all[1].GetId() || all[0].GetState() != adminpb.Request_DONE {
					v.t.Errorf("%s: both ends of one request are wanted, there are %v", v.moment, all)
				}
			}}
	},
	"reschedule": func(v *victim) mortal {
		return mortal{list: `{ task = "reschedule", delay = "1s", attempts = 1 }`, only: []place{{"sender", "error"}, {"receiver", "error"}}, again: true, holds: func(v *victim) {
			if n := strings.Count(v.events(), "Retry"); n != 1 {
				v.t.Errorf("%s: made due again %d times", v.moment, n)
			}
		}}
	},
}

// readHead reads up to an empty line.
func readHead(r *bufio.Reader) (head string) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return ""
		}
		if head += line; line == "\r\n" {
			return head
		}
	}
}

// identity is a key, in files beside the configuration.
func (v *victim) identity() *age.X25519Identity {
	key, err := age.GenerateX25519Identity()
	if err == nil {
		err = errors.Join(os.WriteFile(v.beside("recipients"), []byte(key.Recipient().String()+"\n"), 0o600), os.WriteFile(v.beside("identities"), []byte(key.String()+"\n"), 0o600))
	}
	if err != nil {
		v.t.Fatal(err)
	}
	return key
}

// postOffice is a mail server that takes everything.
func (c *counter) postOffice(w io.Writer, r *bufio.Reader) {
	say := func(text string) { _, _ = io.WriteString(w, text+"\r\n") }
	say("220 office")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
		case "DATA":
			say("354 go on")
			id := ""
			for line, err = r.ReadString('\n'); err == nil && line != ".\r\n"; line, err = r.ReadString('\n') {
				if strings.HasPrefix(line, "Message-ID:") {
					id = line
				}
			}
			c.add(id)
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 fine")
		}
	}
}

func (v *victim) client() adminpb.AdminClient {
	c, err := v.node.Client()
	if err != nil {
		v.t.Fatal(err)
	}
	return c
}

func (v *victim) list(q *adminpb.ListRequest) (all []*adminpb.Request) {
	s, err := v.client().List(context.Background(), q)
	for err == nil {
		var r *adminpb.Request
		if r, err = s.Recv(); err == nil {
			all = append(all, r)
		}
	}
	return all
}

// events are the names of those of the end where the task is, in one text.
func (v *victim) events() string {
	role := map[string]adminpb.Request_Role{"sender": adminpb.Request_REQUESTER, "receiver": adminpb.Request_REQUESTED}[v.at.side]
	reply, err := v.client().Events(context.Background(), &adminpb.Ref{Id: v.id, Role: role})
	if err != nil {
		v.t.Fatal(err)
	}
	var all []string
	for _, e := range reply.GetEvents() {
		all = append(all, e.GetEvent())
	}
	return strings.Join(all, " ")
}

// TestKilledAtTasks kills a node, as kill -9 does, while each task of the catalogue runs, when it
// is done and that is not recorded, and when it is; in lists of both ends. Started again, the node
// brings the request to its end; what spec/tasks.md says is true: nothing is lost or left behind, a
// task that was recorded is not run again, and one that was not is run once more.
func TestKilledAtTasks(t *testing.T) {
	for name := range mortals {
		if _, ok := catalogue.Tasks()[name]; !ok {
			t.Errorf("there is no task %s", name)
		}
	}
	for name := range catalogue.Tasks() {
		of := mortals[name]
		if of == nil {
			t.Errorf("nobody kills a node while %s runs: write down in mortals what is true then", name)
			continue
		}
		for at := range places {
			t.Run(name+"/"+at.side+"."+at.list, func(t *testing.T) {
				t.Parallel()
				killed(t, of, at)
			})
		}
	}
}

func killed(t *testing.T, of func(*victim) mortal, at place) {
	dir, err := os.MkdirTemp("", "kill")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, log: &flowtest.Log{}, at: at}
	if v.node, err = nodetest.New(dir, "hosta", self); err != nil {
		t.Fatal(err)
	}
	v.node.Log = v.log
	t.Cleanup(func() {
		v.node.Close()
		if t.Failed() {
			t.Logf("%s", v.log)
		}
	})
	m := of(v)
	moments := m.at(at)
	if len(moments) == 0 {
		return
	}
	if m.content == nil {
		m.content = plenty
	}
	rule := "[[rule]]\nname = \"work\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\nretry = { delay = \"1s\" }\n[rule." + at.side + "]\n"
	if at.list == "error" {
		rule += "post = [ { task = \"check\", name = \"another name\" } ]\n"
	}
	rule += at.list + " = [ " + m.list + ", { task = \"log\", text = \"the next task\" } ]\n"
	if err := v.node.Write([]string{`log = "info"`}, nil, rule+m.more); err != nil {
		t.Fatal(err)
	}
	if err := v.node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, v.moment = range moments {
		v.die(&m)
		if t.Failed() {
			return
		}
	}
}

// die lets the node die at one moment of a request's task, starts it again, and looks at what
// has become of the request.
func (v *victim) die(m *mortal) {
	t := v.t
	v.out = "out-" + v.moment
	source, target := "in", v.out
	if v.at.side == "sender" {
		source, target = v.out, "there-"+v.moment
	}
	v.put(source, string(m.content))
	v.hold.Store(v.moment == during)
	os.Remove(v.beside(running))
	if m.ready != nil {
		m.ready(v)
	}
	if err := (doom{v.moment, v.at.side, v.at.list, cmp.Or(m.sign, atOnce)}).write(v.node.Dir); err != nil {
		t.Fatal(err)
	}
	reply, err := v.client().Submit(t.Context(), &adminpb.SubmitRequest{Partner: "hosta", Rule: "work", Source: source, Target: target})
	if err != nil {
		t.Fatal(err)
	}
	v.id = reply.GetRequest().GetId()
	select {
	case <-v.node.Ended():
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s: the node has not died", v.moment)
	}
	if m.died != nil {
		m.died(v)
	}
	if err := v.node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := adminpb.Request_DONE
	if m.failed || v.at.list == "error" {
		want = adminpb.Request_INERROR
	}
	r, err := v.client().Wait(t.Context(), &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: v.id}})
	if err != nil || r.GetState() != want {
		t.Fatalf("%s: %v, %v: %v", v.moment, err, r.GetState(), r.GetFailure())
	}
	v.arrived(m, r, target)
	if m.holds != nil {
		m.holds(v)
	}
	if left := leftovers(v.node.Root); len(left) > 0 {
		t.Errorf("%s: left behind: %q", v.moment, left)
	}
	runs := map[string]int{during: 2, before: 2, after: 1}[v.moment]
	events := v.events()
	if v.at.list == "error" { // behind the post task that has failed
		_, events, _ = strings.Cut(events, "BeginTask")
	}
	first, _, _ := strings.Cut(events, "EndTask")
	if n := strings.Count(first, "BeginTask"); !m.again && (n != runs || strings.Count(events, "EndTask") != 2) {
		t.Errorf("%s: it was begun %d times, want %d, and each of two tasks is ended once: %s", v.moment, n, runs, events)
	}
	if m.seen == nil {
		return
	}
	if n := m.seen(v); n != runs && !(v.moment == during && n == 1) { // killed before anybody saw it
		t.Errorf("%s: it was seen %d times, want %d", v.moment, n, runs)
	}
}

// arrived looks at what the other end has of the file, or the sender still.
func (v *victim) arrived(m *mortal, r *adminpb.Request, target string) {
	v.t.Helper()
	switch {
	case v.at.side == "receiver":
		v.is("in", m.content)
	case v.at.list != "pre":
		v.is(target, m.content)
	case m.failed:
		v.none(target)
	default: // what the pre tasks have made
		sent, err := os.ReadFile(v.path(r.GetFile()))
		if err != nil {
			v.t.Fatal(v.moment, err)
		}
		v.is(target, sent)
	}
}
