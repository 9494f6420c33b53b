package node_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/spec/fault"
)

// TestReloadTried: what a configuration asks of the host that there is not keeps the old one, as a
// whole, and the error has the line of each section.
func TestReloadTried(t *testing.T) {
	a := newHost(t, "a")
	a.o.Bundled = []string{"dir"}
	a.start(a.config(""))
	if err := os.Mkdir(filepath.Join(a.dir, "files", "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	before, _ := a.folders()
	other := fmt.Sprintf("[[rule]]\nname = \"other\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = %q\n", a.dir+"/files")
	good := other + a.folder("in", "in")
	bridge := func(plugin, more string) string {
		return fmt.Sprintf("[[bridge]]\nname = \"box\"\nplugin = %q\nendpoint = \"dir://%s\"\n%s", plugin, a.dir, more)
	}
	for what, c := range map[string]struct{ bad, line, says string }{
		"no directory":       {a.folder("out", "gone/away"), `dir = "gone/away"`, "folder out: there is no directory " + a.dir + "/files/gone/away on this host"},
		"no bundled plugin":  {bridge("ftp", ""), `plugin = "ftp"`, "bridge box: "},
		"no program":         {bridge("/nowhere/plugin", ""), `plugin = "/nowhere/plugin"`, "bridge box: the plugin does not start: "},
		"no plugin":          {bridge("/bin/true", ""), `plugin = "/bin/true"`, "bridge box: the plugin does not start: "},
		"another program":    {bridge("/bin/true", fmt.Sprintf("sha256 = \"%064d\"\n", 7)), `plugin = "/bin/true"`, "its sha256 is "},
		"serves nobody":      {a.listener("dir"), `plugin = "dir"`, "listener 127.0.0.1:0: the plugin dir serves no foreign clients"},
		"folder and bridges": {a.folder("out", "gone") + bridge("ftp", ""), `plugin = "ftp"`, "2 problems"},
	} {
		text := a.text(good + c.bad)
		cfg, err := config.Parse("a.toml", []byte(text))
		if err != nil {
			t.Fatal(what, err)
		}
		is, err := a.node.Reload(cfg)
		place := fmt.Sprintf("a.toml:%d:", strings.Count(text[:strings.LastIndex(text, c.line)], "\n")+1)
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), place) {
			t.Errorf("%s: %+v, %v; want %q at %s", what, is, err, c.says, place)
		}
		for _, line := range config.Lines(err) {
			if !strings.HasPrefix(line, "a.toml:") {
				t.Errorf("%s: a line without a place: %q", what, line)
			}
		}
		book := a.node.Engine().Book()
		if after, _ := a.folders(); book.Rules["other"] != nil || !slices.Equal(before, after) {
			t.Errorf("%s: it was refused, and there is the rule %v, and folders %q", what, book.Rules["other"], after)
		}
	}
	is, err := a.node.Reload(a.config(good + bridge("dir", "")))
	if want := []string{"partner box is new", "rule box is new", "rule other is new", "bridge box is new", "folder in is new"}; err != nil || is.Problems != nil || !slices.Contains(is.Notes, want[4]) {
		t.Errorf("%+v, %v; want %q", is, err, want)
	}
	if _, trouble := a.folders(); trouble != "" {
		t.Error(trouble)
	}
}

// TestReloadFolderGone: a folder that stays as it is, whose directory has gone, keeps nothing from
// being taken over, and is told of.
func TestReloadFolderGone(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	in := filepath.Join(a.dir, "files", "in")
	if err := os.Mkdir(in, 0o755); err != nil {
		t.Fatal(err)
	}
	b.start(b.config(a.partner()))
	a.start(a.config(a.folder("in", "in")))
	if err := os.RemoveAll(in); err != nil {
		t.Fatal(err)
	}
	is, err := a.node.Reload(a.config(a.folder("in", "in") + b.partner()))
	if want := []string{"folder in finds nothing: there is no directory " + in + " on this host"}; err != nil || !slices.Equal(is.Problems, want) || !slices.Equal(is.Notes, []string{"partner b is new"}) {
		t.Errorf("%+v, %v; want %q", is, err, want)
	}
	if !strings.Contains(a.log.String(), "this of it does not work") {
		t.Errorf("the log does not say so: %s", a.log)
	}
}

// TestReloadSchedules: schedules that cannot be changed keep the old configuration, bridges, book and all.
func TestReloadSchedules(t *testing.T) {
	for what, end := range map[string]func(*node.Node){"schedules": node.EndSchedules, "what is expected": node.EndExpecting} {
		a, b := newHost(t, "a"), newHost(t, "b")
		a.o.Bundled = []string{"dir"}
		a.start(a.config(""))
		end(a.node)
		is, err := a.node.Reload(a.config(b.partner() + fmt.Sprintf("[[bridge]]\nname = \"box\"\nplugin = \"dir\"\nendpoint = \"dir://%s\"\n", a.dir)))
		if !strings.Contains(fmt.Sprint(err), what) {
			t.Errorf("%s: %+v, %v", what, is, err)
		}
		if book := a.node.Engine().Book(); book.Partners["b"] != nil || book.Partners["box"] != nil {
			t.Errorf("%s: it was refused, and there are the partners %v", what, book.Partners)
		}
	}
}

// folder is the section of a folder for the node itself.
func (h *host) folder(name, dir string) string {
	return fmt.Sprintf("[[folder]]\nname = %q\nrule = \"push\"\npartner = %q\ndir = %q\nafter = \"keep\"\n", name, h.name, dir)
}

// listener is one with a user.
func (h *host) listener(plugin string) string {
	return fmt.Sprintf("[[listener]]\nplugin = %q\nlisten = \"127.0.0.1:0\"\nusers = [ { name = \"u\", keys = \"file:/none\", partner = %q, rule = \"push\" } ]\n", plugin, h.name)
}

// folders are the names of those that the node has, and what ails them.
func (h *host) folders() (names []string, trouble string) {
	for _, s := range node.FoldersOf(h.node) {
		names = append(names, s.Folder.Name)
		trouble += s.Trouble
	}
	return names, trouble
}
