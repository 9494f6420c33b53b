package relay

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

// TestRealTry: what is said of each sort of destination is what has happened, and that a
// destination cannot be used is no lack of consent.
func TestRealTry(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	echo(t, "unix", file("live"))
	dead, err := net.Listen("unix", file("dead"))
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	if err := os.WriteFile(file("text"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tcp := echo(t, "tcp", "127.0.0.1:0").Addr().String()
	for _, tc := range []struct {
		to   string
		want string // what happened, or the kind of the failure
		kind fault.Kind
	}{
		{"tcp://" + tcp, ": connected", 0},
		{"unix://" + file("live"), ": connected", 0},
		{"unix://" + file("dead"), "", fault.Refused},
		{"unix://" + file("none"), "", fault.NotFound},
		{`exec:["/bin/cat"]`, ": started", 0},
		{`exec:["/bin/cat","{port}"]`, ": started", 0},
		{`exec:["` + file("none") + `"]`, "", fault.NotFound},
		{`exec:["` + file("text") + `"]`, "", fault.Refused},
		{"udp://127.0.0.1:9", ": an address; whether it answers", 0},
	} {
		for _, at := range []Place{Here, There} {
			t.Run(tc.to+" "+at.String(), func(t *testing.T) {
				accept := "tcp://127.0.0.1:0"
				if tc.to[:3] == "udp" {
					accept = "udp://127.0.0.1:0"
				}
				port := freePort(t)
				if strings.Contains(tc.to, samePort) {
					accept = "tcp://127.0.0.3:" + PortRange{port, port}.String()
				}
				to := mustTo(t, tc.to).at(port)
				cfg := allowAll(to.String())
				cfg.Policy[0].Listen = []string{"tcp://*:*", "udp://*:*"}
				w := join(t, Config{}, cfg, true)
				w.add(accept, tc.to, func(r *Relay) { r.At = at })
				steps, err := w.west.Try(context.Background(), "r", Endpoint{})
				if err != nil || len(steps) == 0 {
					t.Fatalf("%v, %v", steps, err)
				}
				last := steps[len(steps)-1]
				if last.Name != "destination" || !strings.HasPrefix(last.What, to.String()+tc.want) || tc.kind != 0 && fault.KindOf(last.Err) != tc.kind || tc.kind == 0 && last.Err != nil {
					t.Errorf("%+v", steps)
				}
				for _, s := range steps[:len(steps)-1] {
					if s.Err != nil {
						t.Errorf("%+v", s)
					}
				}
			})
		}
	}
}
