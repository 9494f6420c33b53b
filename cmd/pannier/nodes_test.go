package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
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
// $CONFA the configurations; that of hosta is the default. A file hosta.partner has lines for
// each partner of hosta, and so on.
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
		settings, err := os.ReadFile(filepath.Join(env.WorkDir, name+".partner"))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := n.Write([]string{`log = "info"`}, strings.Split(string(settings), "\n"), nodeRules, others...); err != nil {
			return err
		}
		if err := n.Start(context.Background()); err != nil {
			return err
		}
	}
	return nil
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
