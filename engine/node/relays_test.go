package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// TestRelays: two nodes in a process relay over the session that the relays have made,
// each end says so, and nothing of it is left when they end.
func TestRelays(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	l, err := net.Listen("unix", a.dir+"/echo")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { _, _ = io.Copy(c, c); c.Close() })
		}
	})
	defer func() { l.Close(); serving.Wait() }()
	to := "unix://" + l.Addr().String()
	b.start(b.config(a.partner() + fmt.Sprintf("[[relay_policy]]\npartner = \"a\"\ndial = [%q]\n", to)))
	a.start(a.config(b.partner() + fmt.Sprintf("[[relay]]\nname = \"r\"\nsession = \"b\"\naccept = \"unix://%s/in\"\nto = %q\nallow = [\"b\"]\n", a.dir, to)))
	c, err := net.Dial("unix", a.dir+"/in")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v: %s", got, err, a.log)
	}
	for _, h := range []*host{a, b} {
		client, err := admin.Dial("unix://" + h.dir + "/state/admin.sock")
		if err != nil {
			t.Fatal(err)
		}
		reply, err := client.ListRelays(context.Background(), &adminpb.ListRelaysRequest{Connections: true})
		if err != nil || len(reply.GetConnections()) != 1 || reply.GetConnections()[0].GetRelay() != "r" {
			t.Errorf("%s: %v, %v", h.name, reply, err)
		}
		client.Close()
	}
	c.Close()
	if err := errors.Join(a.end(), b.end()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(a.log.String(), "msg=relayed node=a relay=r partner=b role=entry from=unix") || !strings.Contains(b.log.String(), "msg=relayed node=b relay=r partner=a role=exit") {
		t.Errorf("records: %s%s", a.log, b.log)
	}
}

// TestReloadRelays: a file whose policy is another one, and what of it is said.
func TestReloadRelays(t *testing.T) {
	a := newHost(t, "a")
	relay := fmt.Sprintf("[[relay]]\nname = \"r\"\nsession = \"a\"\naccept = \"unix://%s/in\"\nto = \"tcp://x:1\"\nallow = [\"a\"]\n", a.dir)
	a.start(a.config(relay))
	is, err := a.node.Reload(a.config(strings.Replace(relay, "x:1", "x:2", 1) + "[[relay_policy]]\npartner = \"*\"\ndial = [\"tcp://x:*\"]\n"))
	if want := "relay r has changed, relay_policy has changed"; err != nil || strings.Join(is.Notes, ", ") != want {
		t.Errorf("notes are %q, %v; want %q", is, err, want)
	}
	if is, err := a.node.Reload(a.config("")); err != nil || strings.Join(is.Notes, ", ") != "relay r is gone, relay_policy has changed" {
		t.Errorf("notes are %q, %v", is, err)
	}
	if c, err := net.Dial("unix", a.dir+"/in"); err == nil {
		c.Close()
		t.Error("it is still listened at")
	}
	bad := a.config(relay)
	bad.Node.Name = "other"
	if _, err := a.node.Reload(bad); !errors.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
	if c, err := net.Dial("unix", a.dir+"/in"); err == nil {
		c.Close()
		t.Error("a file that was refused has begun a relay")
	}
}
