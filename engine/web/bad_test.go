package web_test

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/engine/store"
)

// rounds and each are how often transfers are timed without and with bad clients, and how many at a time.
const (
	rounds = 3
	each   = 60
)

// TestBadClients: clients that die, are slow or take nothing do not slow transfers: the best of three rounds beside
// them takes no more than twenty times as long as the best without, both by turns on the same nodes. What would wait for such
// a client would wait for ten seconds at the least.
func TestBadClients(t *testing.T) {
	dir, err := os.MkdirTemp("", "web")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	partner := func(name string) string {
		return fmt.Sprintf("[[partner]]\nname = %q\naddress = \"unix://%s/peer\"\nuser = %q\n", name, filepath.Join(dir, name), u.Uid)
	}
	rule := "[[rule]]\nname = \"push\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\n"
	start(t, filepath.Join(dir, "hostb"), "hostb", partner("hosta")+rule)
	a := start(t, filepath.Join(dir, "hosta"), "hosta", partner("hostb")+rule)
	socket := filepath.Join(dir, "hosta", "state", "http.sock")
	if err := os.WriteFile(filepath.Join(dir, "hosta", "files", "f"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	n := 0
	best := [2]time.Duration{time.Hour, time.Hour}
	for range rounds {
		for bad := range best {
			end := func() {}
			if bad == 1 {
				end = badClients(t, socket)
			}
			best[bad] = min(best[bad], transfers(t, a, &n))
			end()
		}
	}
	t.Logf("%d transfers: %v without, %v beside bad clients", each, best[0], best[1])
	if best[1] > 20*best[0] {
		t.Errorf("%d transfers take %v, beside bad clients %v", each, best[0], best[1])
	}
}

// transfers is how long some take, one after the other's registration, until all are done.
func transfers(t *testing.T, a *node.Node, n *int) time.Duration {
	began := time.Now()
	var refs []store.Ref
	for range each {
		*n++
		r, _, err := a.Engine().Submit(t.Context(), engine.Order{Partner: "hostb", Rule: "push", Source: name("f"), Target: name(fmt.Sprint("f", *n))})
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, store.RefOf(&r))
	}
	for _, ref := range refs {
		if r, err := a.Engine().Wait(t.Context(), ref); err != nil || r.State != lifecycle.Done {
			t.Fatal(r.State, r.Failure, err)
		}
	}
	return time.Since(began)
}

// badClients are ten that follow a page and take nothing, ten that send a byte now and then, and four that ask for
// a page twenty times a second, and are gone before it has come. end ends them.
func badClients(t *testing.T, socket string) (end func()) {
	over := make(chan struct{})
	var all sync.WaitGroup
	dial := func() net.Conn {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Error(err)
			return nil
		}
		return c
	}
	for i := range 24 {
		all.Go(func() {
			for again := true; again; {
				c := dial()
				if c == nil {
					return
				}
				wait := time.Minute
				switch {
				case i < 10:
					fmt.Fprint(c, "GET /live/transfers HTTP/1.1\r\nHost: x\r\n\r\n")
				case i < 20:
					fmt.Fprint(c, "G")
					wait = 100 * time.Millisecond
				default:
					fmt.Fprint(c, "GET /transfers HTTP/1.1\r\nHost: x\r\n\r\n")
					wait = 50 * time.Millisecond
				}
				select {
				case <-over:
					again = false
				case <-time.After(wait):
				}
				c.Close()
			}
		})
	}
	return func() { close(over); all.Wait() }
}
