package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/engine/task/crypt"
	"github.com/pannier/pannier/spec/fault"
)

// Tasks in whole requests between two nodes.

// lists is a rule "work" with files where the others are, for everyone.
func (h *host) lists(direction, sections string) string {
	return fmt.Sprintf("[[rule]]\nname = \"work\"\ndirection = %q\npartners = [\"*\"]\nroot = %q\n%s\n", direction, h.dir+"/files", sections)
}

// secret is a file outside of the root, which only this user can read.
func (h *host) secret(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// hook is a receiver of messages, which gets what they say.
func hook(t *testing.T, answer http.HandlerFunc) (url string, got chan task.Told) {
	t.Helper()
	got = make(chan task.Told, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var m struct{ Data task.Told }
		if err := json.Unmarshal(body, &m); err != nil {
			t.Error(err)
		}
		got <- m.Data
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

// within is the next value of a channel.
func within[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing comes")
	}
	panic("unreachable")
}

// TestTasksTravel: a file is checked, recoded, packed, compressed and encrypted at one end,
// and at the other decrypted, unpacked, checked again, told of and receipted; both ways.
func TestTasksTravel(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, direction := range []string{"send", "receive"} {
		t.Run(direction, func(t *testing.T) {
			a, b := newHost(t, "a"), newHost(t, "b")
			url, told := hook(t, nil)
			sender, receiver := a, b
			if direction == "receive" {
				sender, receiver = b, a
			}
			recipients, identities := sender.secret("recipients", key.Recipient().String()+"\n"), receiver.secret("identities", key.String()+"\n")
			out := `[rule.sender]
pre = [
	{ task = "check", paths = ["out/**"], max_size = 1000, free_space = 1000 },
	{ task = "transcode", decode = "iso-8859-1", newline = "lf", to = "work/{id}/{name}" },
	{ task = "checksum", to = "work/{id}/{name}.sha256" },
	{ task = "archive", path = "work/{id}", to = "work/{id}.tar" },
	{ task = "compress", remove = true },
	{ task = "encrypt", recipients = "file:` + recipients + `", remove = true },
]
post = [ { task = "delete" }, { task = "snapshot", to = "work/{id}.json" } ]`
			in := `[rule.receiver]
pre = [ { task = "check", paths = ["in/*.age"], free_space = 1000 } ]
post = [
	{ task = "receipt", to = "receipts/{id}" },
	{ task = "decrypt", identities = "file:` + identities + `", remove = true, to = "in/{id}.tar.zst" },
	{ task = "decompress", remove = true },
	{ task = "extract", remove = true, to = "in/{id}" },
	{ task = "wait", path = "in/{id}/{id}/a.txt.sha256" },
	{ task = "chmod", path = "in/{id}/{id}/a.txt", mode = "0600" },
	{ task = "http", url = "` + url + `", required = true },
]`
			a.start(a.config(b.partner() + a.lists(direction, map[bool]string{true: out, false: in}[sender == a])))
			b.start(b.config(a.partner() + b.lists(direction, map[bool]string{true: out, false: in}[sender == b])))
			if err := os.Mkdir(filepath.Join(sender.dir, "files/out"), 0o755); err != nil {
				t.Fatal(err)
			}
			sender.write("out/a.txt", "caf\xe9\r\n")
			ref := a.submit("b", "work", "out/a.txt", "in/a.age")
			a.done(ref)
			id := ref.Key.ID.String()
			at := "in/" + id + "/" + id + "/a.txt"
			if got := receiver.read(at); got != "café\n" {
				t.Errorf("%q has arrived", got)
			}
			if fi, err := os.Stat(filepath.Join(receiver.dir, "files", at)); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", fi, err)
			}
			if sum := receiver.read(at + ".sha256"); !strings.HasSuffix(sum, "  a.txt\n") {
				t.Errorf("%q", sum)
			}
			s, _, err := crypt.Verify([]byte(receiver.read("receipts/"+id)), receiver.node.Key())
			if err != nil || s.ID != id || s.Sender.Name != sender.name || s.Receiver.Name != receiver.name || s.File.Name != "in/a.age" || s.File.Size != s.Size || s.Verified == "" {
				t.Errorf("%+v, %v", s, err)
			}
			if m := within(t, told); m.ID != id || m.Node != receiver.name || m.Side != "receiver" {
				t.Errorf("%+v", m)
			}
			var snap task.Told
			if err := json.Unmarshal([]byte(sender.read("work/"+id+".json")), &snap); err != nil || snap.Phase != "POST" || snap.Size != s.Size {
				t.Errorf("%+v, %v", snap, err)
			}
			for _, gone := range []string{"work/" + id + ".tar.zst.age", "work/" + id + ".tar.zst"} {
				if _, err := os.Stat(filepath.Join(sender.dir, "files", gone)); err == nil {
					t.Errorf("%s is there", gone)
				}
			}
		})
	}
}

// TestTasksFail: an archive that would leave its directory fails the request; its error
// tasks tell why, and nothing is unpacked.
func TestTasksFail(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	url, told := hook(t, nil)
	a.start(a.config(b.partner() + a.lists("send", "retry = { attempts = 1 }")))
	b.start(b.config(a.partner() + b.lists("send", `retry = { attempts = 1 }
[rule.receiver]
post = [ { task = "extract", format = "tar", to = "in/x" } ]
error = [ { task = "http", url = "`+url+`" }, { task = "snapshot", to = "failed/{id}.json" }, { task = "move", to = "failed/{name}" } ]`)))
	a.write("evil.tar", "not a tar, but long enough to be read as the header of one: "+strings.Repeat("x", 2000))
	ref := a.submit("b", "work", "evil.tar", "evil.tar")
	r, err := a.node.Engine().Wait(context.Background(), ref)
	if err != nil || r.State != lifecycle.InError || r.Failure.Kind != fault.Refused {
		t.Fatalf("%v: %+v", err, r.Failure)
	}
	if m := within(t, told); m.Failure == nil || m.Failure.Kind != "refused" || m.List != "error" {
		t.Errorf("%+v", m)
	}
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(b.dir, "files/failed/evil.tar")); err == nil {
			break
		} else if time.Since(began) > 20*time.Second {
			t.Fatal(err)
		}
	}
	if !strings.Contains(b.read("failed/"+ref.Key.ID.String()+".json"), `"kind": "refused"`) {
		t.Error("no failure in the snapshot")
	}
	if _, err := os.Stat(filepath.Join(b.dir, "files/in/x")); err == nil {
		t.Error("something was unpacked")
	}
}

// TestVerdict: a task that finds another digest than it wants ends the request at once, at
// whichever end and in whichever list it is.
func TestVerdict(t *testing.T) {
	wrong := `{ task = "check", digest = "sha256:` + strings.Repeat("0", 64) + `" }`
	verify := `{ task = "verify", path = "sums" }`
	for _, c := range []struct{ name, sender, receiver string }{
		{"sender, pre, check", "pre = [ " + wrong + " ]", ""},
		{"sender, post, check", "post = [ " + wrong + " ]", ""},
		{"receiver, post, check", "", "post = [ " + wrong + " ]"},
		{"sender, pre, verify", "pre = [ " + verify + " ]", ""},
		{"receiver, post, verify", "", "post = [ " + verify + " ]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newHost(t, "a"), newHost(t, "b")
			for _, h := range []*host{a, b} {
				h.write("sums", strings.Repeat("0", 64)+"  x\n")
			}
			a.start(a.config(b.partner() + a.lists("send", "retry = { delay = \"1s\" }\n[rule.sender]\n"+c.sender)))
			b.start(b.config(a.partner() + b.lists("send", "[rule.receiver]\n"+c.receiver)))
			a.write("x", "content")
			r, err := a.node.Engine().Wait(t.Context(), a.submit("b", "work", "x", "x"))
			if err != nil || r.State != lifecycle.InError || r.Failure.Kind != fault.Corrupt || r.Attempt != 1 {
				t.Errorf("%v, %v after %d attempts: %+v", err, r.State, r.Attempt, r.Failure)
			}
		})
	}
}

// TestNotifyHarmless: nobody who is told of a transfer, and no scanner that is not asked to,
// makes it fail or wait for longer than its timeout; with required it fails.
func TestNotifyHarmless(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connects, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	hangs, _ := hook(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	fails, _ := hook(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	a, b := newHost(t, "a"), newHost(t, "b")
	post := `[rule.receiver]
post = [
	{ task = "http", url = "` + hangs + `", timeout = "500ms" },
	{ task = "http", url = "` + fails + `", attempts = 1 REQUIRED },
	{ task = "mail", url = "smtp://` + silent.Addr().String() + `", from = "a@example.org", to = "b@example.org", timeout = "500ms" },
]`
	a.start(a.config(b.partner() + a.lists("send", "")))
	b.start(b.config(a.partner() + b.lists("send", strings.ReplaceAll(post, "REQUIRED", ""))))
	a.write("x", "content")
	a.done(a.submit("b", "work", "x", "y"))
	if n := strings.Count(b.log.String(), "warning=true"); n != 3 {
		t.Errorf("%d warnings\n%s", n, b.log)
	}
	if err := b.end(); err != nil {
		t.Fatal(err)
	}
	b.start(b.config(a.partner() + b.lists("send", strings.ReplaceAll(post, "REQUIRED", ", required = true"))))
	r, err := a.node.Engine().Wait(context.Background(), a.submit("b", "work", "x", "z"))
	if err != nil || r.State != lifecycle.InError || r.Failure.Kind != fault.Refused {
		t.Errorf("%v, %v: %+v", err, r.State, r.Failure)
	}
}

// TestTasksRestarted: a node that ends in the middle of a list goes on with the same task,
// and a message that was sent before is sent with the same id.
func TestTasksRestarted(t *testing.T) {
	var calls atomic.Int32
	ids := make(chan string, 10)
	url, _ := hook(t, func(_ http.ResponseWriter, r *http.Request) {
		ids <- r.Header.Get("Webhook-Id")
		if calls.Add(1) == 1 {
			<-r.Context().Done() // the node ends while it waits for the answer
		}
	})
	a, b := newHost(t, "a"), newHost(t, "b")
	post := `[rule.receiver]
post = [ { task = "compress", remove = true }, { task = "http", url = "` + url + `", timeout = "1h", required = true } ]`
	config := func() string { return a.partner() + b.lists("send", post) }
	a.start(a.config(b.partner() + a.lists("send", `retry = { delay = "1s" }`)))
	cfg := b.config(config())
	cfg.Node.Drain = time.Millisecond
	b.start(cfg)
	a.write("x", "content")
	ref := a.submit("b", "work", "x", "y")
	first := within(t, ids)
	if err := b.end(); err != nil {
		t.Fatal(err)
	}
	b.start(b.config(config()))
	a.done(ref)
	if second := within(t, ids); second != first {
		t.Errorf("%q and %q", first, second)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "files/y.zst")); err != nil {
		t.Error(err)
	}
}
