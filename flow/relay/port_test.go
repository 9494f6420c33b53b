package relay

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// TestSamePort: {port} is the accepted port wherever it stands in a destination, once, and
// what comes of that is what the other end has to allow.
func TestSamePort(t *testing.T) {
	for _, tc := range []struct{ to, want string }{
		{"tcp://h:{port}", "tcp://h:80"},
		{"unix:///run/{port}/s-{port}", "unix:///run/80/s-80"},
		{`exec:["/bin/p","{port}","--at=x:{port}","{{port}}","{po{port}rt}","port"]`, `exec:["/bin/p","80","--at=x:80","{80}","{po80rt}","port"]`},
		{"unix:///run/s", "unix:///run/s"},
	} {
		e := mustTo(t, tc.to)
		if e.Same != strings.Contains(tc.to, samePort) || e.String() != tc.to {
			t.Errorf("%s: %+v is %s", tc.to, e, e)
		}
		if got := e.at(80); got.String() != tc.want || got.Same || e.String() != tc.to {
			t.Errorf("%s at 80 is %s, want %s", tc.to, got, tc.want)
		}
		if got := e.at(80).at(90); got.String() != tc.want {
			t.Errorf("%s at 80, then 90, is %s", tc.to, got)
		}
	}
	for _, accept := range []string{"unix:///run/a", "tcp://127.0.0.1:1"} {
		for _, to := range []string{"tcp://h:{port}", "unix:///run/{port}", `exec:["/bin/p","{port}"]`} {
			r := Relay{Name: "r", Partner: "p", Accept: mustAccept(t, "tcp://127.0.0.1:2", accept), To: mustTo(t, to)}
			if err := r.Check(); (accept[:4] == "unix") != (err != nil && strings.Contains(err.Error(), "{port} has no meaning for a unix socket")) {
				t.Errorf("%s to %s: %v", accept, to, err)
			}
		}
	}
	for _, text := range []string{"unix:///run/{port}", `exec:["/bin/p","{port}"]`} {
		if _, err := ParsePattern(text); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "{port}") {
			t.Errorf("pattern %s: %v", text, err)
		}
	}
	if _, err := ParseAccept("unix:///run/{port}"); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "{port}") {
		t.Errorf("accepted at: %v", err)
	}
}

// TestRealSamePort: the same with sockets and commands, at either place.
func TestRealSamePort(t *testing.T) {
	dir := t.TempDir()
	for _, at := range []Place{Here, There} {
		for _, tc := range []struct{ name, to string }{
			{"unix", "unix://" + dir + "/{port}"}, {"exec", `exec:["/bin/echo","-n","it is {port}"]`},
		} {
			t.Run(tc.name+" "+at.String(), func(t *testing.T) {
				ports := []uint16{freePort(t), freePort(t)}
				want, number := "it is ", strconv.Itoa(int(ports[0]))
				allowed := strings.ReplaceAll(tc.to, samePort, number)
				if tc.name == "unix" {
					want = "s"
					for _, p := range ports {
						l, err := net.Listen("unix", filepath.Join(dir, strconv.Itoa(int(p))))
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
								io.WriteString(c, "s"+filepath.Base(l.Addr().String()))
								c.Close()
							}
						}()
					}
				}
				cfg := allowAll(allowed)
				cfg.Policy[0].Listen = []string{"tcp://127.0.0.3:*"}
				w := join(t, Config{}, cfg, true)
				w.add("tcp://127.0.0.3:"+number+","+strconv.Itoa(int(ports[1])), tc.to, func(r *Relay) { r.At = at })
				for i, p := range ports {
					c, err := net.Dial("tcp", w.bound(i))
					if err != nil {
						if i == 1 && at == Here { // turned down before Dial was through
							continue
						}
						t.Fatal(err)
					}
					got, _ := io.ReadAll(c)
					c.Close()
					text := want + strconv.Itoa(int(p))
					if i == 1 && at == Here { // the policy has the first only
						text = ""
					}
					if string(got) != text {
						t.Errorf("port %d: %q, want %q", p, got, text)
					}
				}
				if at == Here {
					waitFor(t, func() bool {
						return len(w.eastLog.with("not relayed", "permission denied", strconv.Itoa(int(ports[1])))) == 1
					})
				}
			})
		}
	}
}

// TestForeignSamePort: {port} is for the one who has the relay: from a partner it is no
// destination, and is put in nowhere.
func TestForeignSamePort(t *testing.T) {
	w := join(t, Config{}, allowAll("unix:///tmp/*", "tcp://*:*"), true)
	for _, to := range []string{"unix:///tmp/{port}", `exec:["/bin/p","{port}"]`, "tcp://h:{port}"} {
		meta, err := wire.AppendMeta(nil, &connAsk{Relay: "r", To: to, Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.near.OpenBytes(context.Background(), flow.Open{Kind: KindConn, Meta: meta}); fault.KindOf(err) != fault.Protocol && fault.KindOf(err) != fault.Permission {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// TestMode: a unix socket has the permissions that the relay says, and only such a relay
// says any.
func TestMode(t *testing.T) {
	dir := t.TempDir()
	w := join(t, Config{}, allowAll(`exec:["/bin/cat"]`), true)
	path := filepath.Join(dir, "s")
	w.add("unix://"+path, `exec:["/bin/cat"]`, func(r *Relay) { r.Mode = 0o620 })
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o620 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for name, change := range map[string]func(*Relay){
		"no socket": func(r *Relay) { r.Accept = mustAccept(t, "tcp://127.0.0.1:0") },
		"there":     func(r *Relay) { r.At = There },
		"setuid":    func(r *Relay) { r.Mode = 0o4600 | os.ModeSetuid },
	} {
		r := Relay{Name: "x", Partner: "east", Accept: mustAccept(t, "unix:///run/x"), To: mustTo(t, "tcp://h:1"), Mode: 0o660}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		change(&r)
		if err := r.Check(); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "mode") {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := Relay{Name: "x", Partner: "east", Accept: mustAccept(t, "unix:///run/x"), To: mustTo(t, "tcp://h:1"), ProxyProtocol: true}
	if err := r.Check(); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "PROXY") {
		t.Errorf("a header that the partner would have to write: %v", err)
	}
}
