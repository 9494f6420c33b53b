package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/relay"
)

// TestCommandWords: words behind exec: are the list that they mean, unless a shell would make something else of them.
func TestCommandWords(t *testing.T) {
	for text, want := range map[string]string{
		"exec:ssh hostb pannier stdio": `exec:["ssh","hostb","pannier","stdio"]`,
		"exec: /bin/cat ":              `exec:["/bin/cat"]`,
		"exec:/bin/e port={port}":      `exec:["/bin/e","port={port}"]`,
		`exec:["/bin/cat"]`:            `exec:["/bin/cat"]`,
		`exec: [ "/bin/cat" ]`:         `exec: [ "/bin/cat" ]`,
		`exec:sh -c "exit 1"`:          `exec:sh -c "exit 1"`,
		"exec:ssh $HOST":               "exec:ssh $HOST",
		"exec:e {a,b}":                 "exec:e {a,b}",
		"exec:a|b":                     "exec:a|b",
		"exec:":                        "exec:",
		"tls://hostb":                  "tls://hostb",
		"":                             "",
	} {
		if got := commandWords(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// TestRelayOnceSessionDrains: while the node drains the session of a relay without a daemon, as it does before it
// ends, its connections go on, and new ones have a session of their own; the listener stays.
func TestRelayOnceSessionDrains(t *testing.T) {
	server := echoServer(t)
	far, err := relay.New(relay.Config{Policy: []relay.Allow{{Partner: "caller", Relay: "*", Dial: []string{"tcp://" + server}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	acceptor, err := flow.NewAcceptor(flow.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer acceptor.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go acceptor.Handle(c)
		}
	}()
	sessions := make(chan *flow.Session, 10)
	go func() {
		for {
			s, err := acceptor.Accept(context.Background())
			if err != nil {
				return
			}
			sessions <- s
			go func() { _ = far.Serve("caller", s) }()
		}
	}()

	d, err := carrier.NewDialer("tcp://"+l.Addr().String(), carrier.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := &once{dialer: d, cfg: flow.Config{Name: "pannier relay"}, partner: "node"}
	o.life, o.end = context.WithCancel(context.Background())
	if o.hub, err = relay.New(relay.Config{Reach: o.reach, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}); err != nil {
		t.Fatal(err)
	}
	defer o.close()
	accept, _ := relay.ParseAccept("tcp://127.0.0.1:0")
	to, _ := relay.ParseTo("tcp://" + server)
	if err := o.hub.Add(relay.Relay{Name: "r", Partner: "node", Accept: []relay.Endpoint{accept}, To: to}); err != nil {
		t.Fatal(err)
	}
	at := o.hub.Stats()[0].Bound[0]
	dial := func() net.Conn {
		c, err := net.Dial("tcp", strings.TrimPrefix(at, "tcp://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	say := func(c net.Conn, text string) {
		t.Helper()
		got := make([]byte, len(text))
		_, err := io.WriteString(c, text)
		if err == nil {
			_, err = io.ReadFull(c, got)
		}
		if err != nil || string(got) != text {
			t.Fatalf("%s: %q, %v", text, got, err)
		}
	}
	first := dial()
	say(first, "over the first session")
	drained := make(chan error, 1)
	s := <-sessions
	go func() { drained <- s.Drain(context.Background()) }()
	for len(sessions) == 0 { // until the word of it has come
		c := dial()
		say(c, "a new one")
		c.Close()
	}
	say(first, "goes on")
	if now := o.hub.Stats()[0].Bound[0]; now != at {
		t.Errorf("it listens at %s, and did at %s", now, at)
	}
	if len(drained) > 0 {
		t.Error("the first session is over, and a connection is open on it")
	}
	first.Close()
	if err := <-drained; err != nil {
		t.Errorf("its last connection has ended: %v", err)
	}
}
