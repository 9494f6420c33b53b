package node_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/flow/carrier"
)

// inBubble runs two nodes, a with what its file has more, that reach each other through
// memory, in a bubble whose clock begins at the midnight with which 2000 does, UTC.
func inBubble(t *testing.T, a, b *host, moreOfA, moreOfB string, do func(t *testing.T)) {
	t.Helper()
	ca := a.config("[[partner]]\nname = \"b\"\naddress = \"unix:///nowhere\"\nuser = \"0\"\n" + moreOfA)
	cb := b.config("[[partner]]\nname = \"a\"\naddress = \"unix:///nowhere\"\nuser = \"0\"\n" + moreOfB)
	synctest.Test(t, func(t *testing.T) {
		pipe := carrier.NewPipe()
		defer pipe.Close()
		for _, c := range []*config.Config{ca, cb} {
			c.Node.Listen, c.Node.Admin, c.HTTP = nil, "", config.HTTP{} // sockets block for real
		}
		of := func(c *config.Config, name, address string) {
			p := *c.Book.Partners[name]
			p.Address, p.Keys = address, nil
			c.Book.Partners = map[string]*engine.Partner{name: &p}
		}
		of(ca, "b", "pipe:")
		of(cb, "a", "")
		a.o.Dial = func(string) *carrier.Pipe { return pipe }
		b.o.Pipe, b.o.PipePartner = pipe, "a"
		for _, h := range []struct {
			*host
			*config.Config
		}{{b, cb}, {a, ca}} {
			if err := h.open(h.Config); err != nil {
				t.Fatal(err)
			}
			defer h.end()
		}
		do(t)
	})
}

// TestScheduled: a schedule sends at its time, another gets, and each file arrives.
func TestScheduled(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	a.write("x", "sent")
	b.write("y-2000-01-01", "got")
	inBubble(t, a, b, `
[[schedule]]
name    = "send"
cron    = "30 2 * * *"
zone    = "Europe/Berlin"
rule    = "push"
partner = "b"
source  = "?"
target  = "in/{name}-{hour}{minute}"

[[schedule]]
name    = "get"
cron    = "0 3 * * *"
zone    = "UTC"
rule    = "pull"
partner = "b"
source  = "y-{date}"
target  = "y"
`, "", func(t *testing.T) {
		time.Sleep(89 * time.Minute)
		if b.has("in/x-0230") {
			t.Error("it was sent early")
		}
		time.Sleep(2 * time.Minute)
		if got := b.read("in/x-0230"); got != "sent" {
			t.Errorf("sent is %q", got)
		}
		time.Sleep(90 * time.Minute)
		if got := a.read("y"); got != "got" {
			t.Errorf("got is %q", got)
		}
	})
}

func (h *host) has(name string) bool {
	_, err := os.Stat(filepath.Join(h.dir, "files", name))
	return err == nil
}
