package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// demoBytes is what the demonstration's web server answers.
const demoBytes = 16 << 20

// demoRelay shows a relay: refused, allowed, used.
func demoRelay(ctx context.Context, out io.Writer, dir string) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "pannier-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	d := &conduitDemo{demonstration: demonstration{ctx: ctx, out: out}}
	if d.a, d.b, err = nodetest.Pair(dir, self); err != nil {
		return err
	}
	defer d.a.Close()
	defer d.b.Close()
	stop, err := d.serveWeb(filepath.Join(dir, "web"))
	if err != nil {
		return err
	}
	defer stop()
	return d.run()
}

// conduitDemo is two nodes and a web server that only one of them can reach.
type conduitDemo struct {
	demonstration
	web string // endpoint
	url string // of the relay's entry
}

// serveWeb answers at a socket until stop is called.
func (d *conduitDemo) serveWeb(path string) (stop func(), err error) {
	d.web = "unix://" + path
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fault.Wrap("serve", path, err)
	}
	page := strings.Repeat("Carried by Pannier.\n", demoBytes/20)
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page) })}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	return func() { _ = s.Close(); <-ended }, nil
}

const (
	demoRelaySection = `
[[relay]]
name    = "web-of-hostb"
session = "hostb"
accept  = "tcp://127.0.0.1:0"
to      = "%WEB%"
allow   = ["hostb"]
`
	demoPolicySection = `
[[relay_policy]]
partner = "hosta"
relay   = "web-of-hostb"
dial    = ["%WEB%"]
`
)

func (d *conduitDemo) run() error {
	section := func(text string) string { return strings.ReplaceAll(text, "%WEB%", d.web) }
	settings := []string{`log = "error"`}
	if err := errors.Join(d.a.Write(settings, nil, section(demoRelaySection), d.b), d.b.Write(settings, nil, "", d.a)); err != nil {
		return err
	}
	for _, n := range []*nodetest.Node{d.b, d.a} {
		if err := n.Start(d.ctx); err != nil {
			return err
		}
	}
	d.began = time.Now()
	d.say("two daemons: %s and %s, joined by TLS with pinned keys; a web server that %s reaches at %s", d.a.Name, d.b.Name, d.b.Name, d.web)
	relays, err := d.list(d.a)
	if err != nil {
		return err
	}
	if len(relays.GetRelays()) != 1 || len(relays.GetRelays()[0].GetBound()) != 1 {
		return fault.New("begin relay", fault.Internal, "it does not listen: %v", relays)
	}
	d.url = "http://" + strings.TrimPrefix(relays.GetRelays()[0].GetBound()[0], "tcp://") + "/"
	fmt.Fprintf(d.out, "\n%s has%s\n", d.a.Name, section(demoRelaySection))
	if _, err := d.get(); err == nil {
		return fault.New("relay", fault.Internal, "what nobody allowed was relayed")
	}
	if err := d.why(); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\n%s gets, and reads with pannier reload,%s\n", d.b.Name, section(demoPolicySection))
	if err := d.b.Write(settings, nil, section(demoPolicySection), d.a); err != nil {
		return err
	}
	at, err := d.b.Client()
	if err != nil {
		return err
	}
	if _, err := at.Reload(d.ctx, &adminpb.ReloadRequest{}); err != nil {
		return err
	}
	if err := d.why(); err != nil {
		return err
	}
	began := time.Now()
	n, err := d.get()
	if err != nil {
		return err
	}
	d.say("GET %s at %s: %s in %.3f s", d.url, d.a.Name, humanize.IBytes(uint64(n)), time.Since(began).Seconds())
	return d.counters()
}

func (d *conduitDemo) list(n *nodetest.Node) (*adminpb.ListRelaysReply, error) {
	client, err := n.Client()
	if err != nil {
		return nil, err
	}
	return client.ListRelays(d.ctx, &adminpb.ListRelaysRequest{})
}

// get asks for the page through the relay, and returns its size.
func (d *conduitDemo) get() (int64, error) {
	req, err := http.NewRequestWithContext(d.ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return 0, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer reply.Body.Close()
	n, err := io.Copy(io.Discard, reply.Body)
	if err == nil && n != demoBytes/20*20 {
		err = fault.New("get page", fault.Corrupt, "%d bytes came", n)
	}
	return n, err
}

// why shows what pannier relay test says.
func (d *conduitDemo) why() error {
	client, err := d.a.Client()
	if err != nil {
		return err
	}
	reply, err := client.TestRelay(d.ctx, &adminpb.TestRelayRequest{Name: "web-of-hostb"})
	if err != nil {
		return err
	}
	d.say("pannier relay test web-of-hostb")
	return stepTable(reply.GetSteps()).Write(d.out)
}

// counters shows what both ends have counted.
func (d *conduitDemo) counters() error {
	v := view{people: command.Terminal(d.out), now: time.Now()}
	for _, n := range []*nodetest.Node{d.a, d.b} {
		reply, err := d.list(n)
		if err != nil {
			return err
		}
		fmt.Fprintf(d.out, "\n%s: pannier relay list%s\n", n.Name, map[bool]string{true: " --policy"}[n == d.b])
		table := relayTable(v, reply.GetRelays())
		if n == d.b {
			table = policyTable(v, reply.GetPolicy())
		}
		if err := table.Write(d.out); err != nil {
			return err
		}
	}
	return nil
}
