package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/adminpb"
)

// program is this program as one of its own, which replace replaces.
type program struct {
	path    string
	content []byte
	n       int
}

func newProgram(t *testing.T) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{path: filepath.Join(t.TempDir(), "plugin")}
	if p.content, err = os.ReadFile(self); err != nil {
		t.Fatal(err)
	}
	p.replace(t, p.content)
	return p
}

func (p *program) replace(t *testing.T, content []byte) {
	t.Helper()
	if err := os.WriteFile(p.path+".new", content, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.path+".new", p.path); err != nil {
		t.Fatal(err)
	}
}

// next is another program that does the same.
func (p *program) next(t *testing.T) (sum string) {
	t.Helper()
	p.n++
	content := append([]byte(nil), p.content...)
	for range p.n {
		content = append(content, 0)
	}
	p.replace(t, content)
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// pids are the processes of plugins that were started, in order.
func (c *conduit) pids() (all []string) {
	for _, m := range regexp.MustCompile(`"?plugin started"?.*? pid=(\d+)`).FindAllStringSubmatch(c.logA.String(), -1) {
		all = append(all, m[1])
	}
	return all
}

func alive(pid string) bool {
	_, err := os.Stat("/proc/" + pid)
	return err == nil
}

// TestBridgeUpgraded: when the program of a plugin was replaced, by its name or by a digest of the
// configuration, what runs ends with the old process, which then ends, and what begins has the
// new one. One that does not start changes nothing; what takes too long goes on with the new one.
func TestBridgeUpgraded(t *testing.T) {
	p := newProgram(t)
	c := newConduit(t)
	box := t.TempDir()
	section := fmt.Sprintf("[[bridge]]\nname = \"box\"\nplugin = %q\nargs = [%q, \"dir\"]\nendpoint = \"dir://%s\"\nbandwidth = \"2MB/s\"\n", p.path, host.EntryArgument, box)
	c.write(bridgeRules+section, bridgeRules)
	c.start(c.a)
	b := noise(10 << 20) // seconds, within which programs are replaced, also on a busy host
	c.wrote(filepath.Join(c.a.Root, "x"), b)
	client := c.client(c.a)
	slow := func(target string) (ends func() *adminpb.Request) {
		r, err := client.Submit(t.Context(), &adminpb.SubmitRequest{Partner: "box", Rule: "out", Source: "x", Target: target})
		if err != nil {
			t.Fatal(err)
		}
		ref := &adminpb.Ref{Id: r.GetRequest().GetId()}
		c.until("bytes move", func() bool {
			r, err := client.Get(t.Context(), ref)
			return err == nil && r.GetLive().GetReceived() > 1<<20
		})
		return func() *adminpb.Request {
			r, err := client.Wait(t.Context(), &adminpb.WaitRequest{Ref: ref})
			if err != nil || r.GetState() != adminpb.Request_DONE {
				t.Errorf("%v, %v", r, err)
			}
			c.has(filepath.Join(box, target), b)
			return r
		}
	}
	for round, how := range []string{"by its name", "by the digest"} {
		ends := slow(fmt.Sprint("old", round))
		before := c.pids()
		sum := p.next(t)
		want := "was replaced"
		if how == "by the digest" {
			c.write(bridgeRules+section+fmt.Sprintf("sha256 = %q\n", sum), bridgeRules)
			want = "bridge box has changed"
		}
		if out := c.does("reload"); !strings.Contains(out, want) {
			t.Errorf("%s: reload says %q", how, out)
		}
		c.does("ls", "box:/")
		after := c.pids()
		if len(after) != len(before)+1 || !alive(before[len(before)-1]) {
			t.Fatalf("%s: processes %v, then %v", how, before, after)
		}
		if r := ends(); r.GetAttempt() != 1 {
			t.Errorf("%s: what ran needed %d attempts", how, r.GetAttempt())
		}
		c.until(how+": the old process has ended", func() bool { return !alive(before[len(before)-1]) })
		if !alive(after[len(after)-1]) {
			t.Errorf("%s: the new one has, too", how)
		}
	}

	c.write(bridgeRules+section, bridgeRules)
	c.does("reload")
	c.does("ls", "box:/")
	good := c.pids()
	p.replace(t, []byte("this is no program"))
	if out := c.reloads(command.Some); !strings.Contains(out, "the process of before goes on") {
		t.Errorf("reload with a broken one says %q", out)
	}
	c.does("ls", "box:/")
	if now := c.pids(); len(now) != len(good) || !alive(good[len(good)-1]) {
		t.Errorf("with a broken one: processes %v, then %v", good, now)
	}

	ends := slow("late")
	p.next(t)
	text, err := os.ReadFile(c.a.Config())
	if err != nil {
		t.Fatal(err)
	}
	c.wrote(c.a.Config(), []byte(strings.Replace(string(text), `drain = "20s"`, `drain = "10ms"`, 1)))
	c.does("reload")
	if r := ends(); r.GetAttempt() < 2 {
		t.Errorf("it was not cut off")
	}
}

// TestListenerUpgraded: the same for a listener: a client that is there ends its upload with the
// old process, who comes has the new one, and nobody is turned away.
func TestListenerUpgraded(t *testing.T) {
	p := newProgram(t)
	c := newConduit(t)
	address := freeport.For(t, "127.0.0.1")
	section := strings.Replace(c.listens("ftp", address, `"tls=off", "drain=60s"`, `partner = "hostb", rule = "out"`),
		`plugin = "ftp"`, fmt.Sprintf("plugin = %q\nargs = [%q, \"ftp\"]", p.path, host.EntryArgument), 1)
	c.write(bridgeRules+section, bridgeRules)
	c.start(c.b, c.a)
	c.reachable(address)
	old := c.pids()[0]
	b := noise(4 << 20)
	local := filepath.Join(t.TempDir(), "x") // the client reads what it is given
	if err := syscall.Mkfifo(local, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		out, err := c.foreign("curl", "-sSv", "-T", local, "ftp://acme:secret@"+address+"/x")
		if err == nil && !strings.Contains(out, "226") {
			err = fmt.Errorf("%s", out)
		}
		done <- err
	}()
	source, err := os.OpenFile(local, os.O_RDWR, 0) // so that it waits for no client that may never come
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	if err := source.SetWriteDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	const first = 2 << 20
	if _, err := source.Write(b[:first]); err != nil {
		t.Fatal(err)
	}
	c.until("bytes come", func() bool {
		all, _ := filepath.Glob(filepath.Join(c.a.Root, ".*"))
		for _, path := range all {
			if fi, err := os.Stat(path); err == nil && fi.Size() > 1<<20 {
				return true
			}
		}
		return false
	})
	p.next(t)
	if out := c.does("listener", "list"); !strings.Contains(out, address) || !strings.Contains(out, old+"\tserving\tacme\t-") {
		t.Errorf("listener list says %q", out)
	}
	if out := c.does("reload"); !strings.Contains(out, "was replaced") {
		t.Errorf("reload says %q", out)
	}
	for i := range 5 {
		if out, err := c.foreign("curl", "-sS", fmt.Sprintf("ftp://acme:secret@%s/", address)); err != nil {
			t.Errorf("client %d: %v: %s", i, err, out)
		}
	}
	if !alive(old) {
		t.Error("the old process has ended before its client")
	}
	if _, err := source.Write(b[first:]); err != nil {
		t.Error(err)
	}
	source.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.has(filepath.Join(c.b.Root, "x"), b)
	c.until("the old process has ended", func() bool { return !alive(old) })
}
