package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pannier/pannier/engine/node/nodetest"
)

// nodes are three real ones, hosta, hostb and hostc, each the partner of the others, with the
// rules push and pull.
type nodes map[string]*nodetest.Node

const nodeRules = `
[[rule]]
name = "push"
direction = "send"
partners = ["*"]
root = "%ROOT%"
digest = "sha256"
retry = { delay = "1s" }
[[rule]]
name = "pull"
direction = "receive"
partners = ["*"]
root = "%ROOT%"
digest = "sha256"
retry = { delay = "1s" }
`

// startNodes gives a script three nodes. $HOSTA and so on are the roots of their rules, and
// $CONFA the configurations, $PIDA the first processes; that of hosta is the default. A file hosta.hostb has lines for
// the partner hostb of hosta, and so on.
func startNodes(env *testscript.Env) error {
	dir, err := os.MkdirTemp("", "pn") // short, for sockets' names
	if err != nil {
		return err
	}
	all := nodes{}
	env.Values[nodes{}.key()] = all
	env.Defer(func() {
		for _, n := range all {
			n.Close()
		}
		os.RemoveAll(dir)
	})
	for _, name := range []string{"hosta", "hostb", "hostc"} {
		if all[name], err = nodetest.New(dir, name, "pannier"); err != nil {
			return err
		}
		last := strings.ToUpper(name[4:])
		env.Setenv("HOST"+last, all[name].Root)
		env.Setenv("CONF"+last, all[name].Config())
	}
	env.Setenv("PANNIER_CONFIG", all["hosta"].Config())
	for name, n := range all {
		var others []*nodetest.Node
		for other, o := range all {
			if other != name {
				others = append(others, o)
			}
		}
		if err := n.Write([]string{`log = "info"`}, nil, nodeRules, others...); err != nil {
			return err
		}
		if err := more(n, env.WorkDir, others); err != nil {
			return err
		}
		if err := n.Start(context.Background()); err != nil {
			return err
		}
		env.Setenv("PID"+strings.ToUpper(name[4:]), strconv.Itoa(n.PID()))
	}
	return nil
}

// more adds to a node's configuration what the script has for its partners.
func more(n *nodetest.Node, dir string, partners []*nodetest.Node) error {
	b, err := os.ReadFile(n.Config())
	if err != nil {
		return err
	}
	text := string(b)
	for _, p := range partners {
		lines, err := os.ReadFile(filepath.Join(dir, n.Name+"."+p.Name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		head := fmt.Sprintf("[[partner]]\nname = %q\n", p.Name)
		text = strings.Replace(text, head, head+string(lines), 1)
	}
	return os.WriteFile(n.Config(), []byte(text), 0o644)
}

func (nodes) key() string { return "nodes" }

// nodeCommands are those of scripts with real nodes:
//
//	crash NAME   ends a node as a crash does
//	up NAME      starts it again
func nodeCommands() map[string]func(*testscript.TestScript, bool, []string) {
	of := func(ts *testscript.TestScript, args []string) *nodetest.Node {
		n := ts.Value(nodes{}.key()).(nodes)[args[0]]
		if n == nil {
			ts.Fatalf("there is no node %s", args[0])
		}
		return n
	}
	all := commonCommands()
	maps.Copy(all, map[string]func(*testscript.TestScript, bool, []string){
		"crash": func(ts *testscript.TestScript, _ bool, args []string) { of(ts, args).Kill() },
		"up": func(ts *testscript.TestScript, _ bool, args []string) {
			ts.Check(of(ts, args).Start(context.Background()))
		},
	})
	return all
}
