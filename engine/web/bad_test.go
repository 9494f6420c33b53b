package web_test

import (
	"fmt"
	"io"
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
// them takes no more than twenty times as long as the best without, or four times as long as the best beside clients that ask
// for the same, and take it; all by turns on the same nodes. What would wait for a bad client would wait for ten seconds at the least.
func TestBadClients(t *testing.T) {
	dir := shortDir(t)
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
	without, good, bad := time.Hour, time.Hour, time.Hour
	for range rounds {
		without = min(without, transfers(t, a, &n))
		end := clients(t, socket, true)
		good = min(good, transfers(t, a, &n))
		end()
		end = clients(t, socket, false)
		bad = min(bad, transfers(t, a, &n))
		end()
	}
	t.Logf("%d transfers: %v without clients, %v beside good ones, %v beside bad ones", each, without, good, bad)
	if bad > 20*without && bad > 4*good {
		t.Errorf("%d transfers take %v, beside good clients %v, beside bad ones %v", each, without, good, bad)
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

// clients are ten that follow a page, ten that send a byte now and then, and four that ask for a page twenty times a
// second. Good ones take what comes; bad ones take nothing, and are gone before the page has come. end ends them.
func clients(t *testing.T, socket string, good bool) (end func()) {
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
				var taken sync.WaitGroup
				if good {
					taken.Go(func() { _, _ = io.Copy(io.Discard, c) })
				}
				select {
				case <-over:
					again = false
				case <-time.After(wait):
				}
				c.Close()
				taken.Wait()
			}
		})
	}
	return func() { close(over); all.Wait() }
}
