package config

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/relay"
)

// TestRelays: what the sections say arrives as the relay and the policy that they mean.
func TestRelays(t *testing.T) {
	cfg, err := Parse("x", []byte(`
node.name = "a"
[[partner]]
name = "b"
address = "unix:///run/b"
[[relay]]
name = "web"
session = "b"
accept = ["tcp://127.0.0.1:8000-8001", "unix:///run/w"]
to = "tcp://10.0.0.1:80"
ports = [{ port = 8001, to = 'exec:["/bin/cat"]' }]
from = ["10.0.0.0/8", "::1"]
mode = "0660"
allow = ["*"]
limits = { conns = 7, bytes = "1KiB", rate = "1kB/s", life = "1h", idle = "1m", half = "none", weight = 4, amplify = 9 }
[[relay]]
name = "back"
session = "a"
accept = "udp://:53"
at = "there"
to = "udp://127.0.0.1:53"
allow = ["a", "b"]
[[relay]]
name = "told"
session = "b"
accept = "tcp://:80"
at = "there"
to = "unix:///run/{port}"
proxy_protocol = true
allow = ["b"]
[[relay_policy]]
partner = "*"
dial = ["tcp://*:22"]
proxy_protocol = true
[[relay_policy]]
partner = "b"
relay = "x"
listen = ["tcp://127.0.0.1:*"]
limits = { opens = 3 }
`))
	if err != nil {
		t.Fatal(err)
	}
	common := relay.Limits{Conns: 4096, Opens: 2000, Bytes: -1, Life: -1, Idle: -1, Half: 5 * time.Minute, Datagram: 65507, Sources: 1024, Weight: 1}
	few := common
	few.Opens = 3
	web := relay.Relay{
		Name: "web", Partner: "b", Accept: []relay.Endpoint{accept(t, "tcp://127.0.0.1:8000-8001"), accept(t, "unix:///run/w")}, To: to(t, "tcp://10.0.0.1:80"),
		Ports: map[uint16]relay.Endpoint{8001: to(t, `exec:["/bin/cat"]`)}, From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}, Mode: 0o660,
		Limits: relay.Limits{Conns: 7, Opens: 2000, Bytes: 1024, Rate: 1000, Life: time.Hour, Idle: time.Minute, Half: -1, Datagram: 65507, Sources: 1024, Amplify: 9, Weight: 4},
	}
	back := relay.Relay{Name: "back", Partner: "a", At: relay.There, Accept: []relay.Endpoint{accept(t, "udp://:53")}, To: to(t, "udp://127.0.0.1:53"), Limits: common}
	told := relay.Relay{Name: "told", Partner: "b", At: relay.There, Accept: []relay.Endpoint{accept(t, "tcp://:80")}, To: to(t, "unix:///run/{port}"), ProxyProtocol: true, Limits: common}
	if want := map[string]relay.Relay{"web": web, "back": back, "told": told}; !reflect.DeepEqual(cfg.Relays, want) {
		t.Errorf("relays are\n%+v, want\n%+v", cfg.Relays, want)
	}
	want := []relay.Allow{{Partner: "*", Relay: "*", Dial: []string{"tcp://*:22"}, ProxyProtocol: true, Limits: common}, {Partner: "b", Relay: "x", Listen: []string{"tcp://127.0.0.1:*"}, Limits: few}}
	if !reflect.DeepEqual(cfg.Policy, want) {
		t.Errorf("policy is\n%+v, want\n%+v", cfg.Policy, want)
	}
}

func accept(t *testing.T, text string) relay.Endpoint {
	e, err := relay.ParseAccept(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func to(t *testing.T, text string) relay.Endpoint {
	e, err := relay.ParseTo(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
