package node

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/spec/fault"
)

// TestBridgesShare: bridges share the process of a program with the same arguments.
func TestBridgesShare(t *testing.T) {
	b := &bridges{node: &Node{log: slog.New(slog.DiscardHandler)}}
	defer b.close()
	cfg := &config.Config{Bridges: map[string]config.Bridge{}}
	for name, args := range map[string][]string{"one": {"/a.py"}, "same": {"/a.py"}, "other": {"/b.py"}, "none": nil} {
		cfg.Bridges[name] = config.Bridge{Name: name, Plugin: "/usr/bin/python3", Args: args, Endpoint: "box://a"}
	}
	if err := b.change(cfg); err != nil {
		t.Fatal(err)
	}
	if one := b.all["one"].plugin; one != b.all["same"].plugin || one == b.all["other"].plugin || one == b.all["none"].plugin {
		t.Errorf("%v", b.all)
	}
}

// TestBridgesChange: with another configuration, bridges that stay as they are keep
// their plugins, others get new ones or are gone; one that cannot be changes nothing.
func TestBridgesChange(t *testing.T) {
	n := &Node{o: Options{Bundled: []string{"dir"}}, log: slog.New(slog.DiscardHandler)}
	b := &bridges{node: n}
	defer b.close()
	is := func(all ...config.Bridge) *config.Config {
		cfg := &config.Config{Bridges: map[string]config.Bridge{}}
		for _, one := range all {
			cfg.Bridges[one.Name] = one
		}
		return cfg
	}
	one := config.Bridge{Name: "one", Plugin: "dir", Endpoint: "dir:///a"}
	two := config.Bridge{Name: "two", Plugin: "/usr/lib/pannier-plugin-box", Endpoint: "box://a", Options: map[string]string{"x": "y"}}
	if err := b.change(is(one, two)); err != nil {
		t.Fatal(err)
	}
	first, second := b.all["one"], b.all["two"]
	one.Endpoint = "dir:///b"
	if err := b.change(is(one, two)); err != nil {
		t.Fatal(err)
	}
	if b.all["one"] == first || b.all["two"] != second {
		t.Error("one has changed and two has not")
	}
	first = b.all["one"]
	if err := b.change(is(one, config.Bridge{Name: "three", Plugin: "ftp"})); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), `"ftp"`) {
		t.Errorf("a plugin that is not there: %v", err)
	}
	if b.all["one"] != first || b.all["two"] != second || len(b.all) != 2 {
		t.Errorf("after an error: %v", b.all)
	}
	if err := b.change(is(one)); err != nil || b.all["one"] != first || len(b.all) != 1 {
		t.Errorf("two is gone: %v, %v", b.all, err)
	}
	if _, err := b.Send(t.Context(), "two", "/x", nil, 0); fault.KindOf(err) != fault.NotFound {
		t.Errorf("to a bridge that is gone: %v", err)
	}
	if _, err := b.Send(t.Context(), "one", "/x\r\nDELE y", nil, 0); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a name with a line end: %v", err)
	}
}
