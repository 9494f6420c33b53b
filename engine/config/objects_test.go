package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/objects"
	"github.com/pannier/pannier/spec/fault"
)

// TestSections: a text is cut into its objects, each with the comments right above it and the
// tables that are parts of it; nothing of the text is lost on the way.
func TestSections(t *testing.T) {
	const text = `# of the whole text

# the bank
# and how it is called
[[partner]]
name = "bank"
address = "tls://bank.example:6610" # a comment behind

[[rule]]
name = "in"
text = """
[[partner]]
name = "none: this is a text"
"""
[rule.retry]
delay = "1s"
[rule.receiver]
post = [ { task = "log", text = "[[rule]]" } ]
# above the next
[[ "rule" ]]
  name = 'out'
[[pool]]
name = "night"
`
	all := sections(t, text)
	var got []string
	for _, o := range all {
		got = append(got, o.Kind+" "+o.Name)
	}
	if want := []string{"partner bank", "rule in", "rule out", "pool night"}; !slices.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
	for i, want := range []string{
		"# the bank\n# and how it is called\n[[partner]]\nname = \"bank\"\naddress = \"tls://bank.example:6610\" # a comment behind\n",
		"[[rule]]\nname = \"in\"\ntext = \"\"\"\n[[partner]]\nname = \"none: this is a text\"\n\"\"\"\n[rule.retry]\ndelay = \"1s\"\n[rule.receiver]\npost = [ { task = \"log\", text = \"[[rule]]\" } ]\n",
		"# above the next\n[[ \"rule\" ]]\n  name = 'out'\n",
		"[[pool]]\nname = \"night\"\n",
	} {
		if all[i].Text != want {
			t.Errorf("%s is\n%s\nwant\n%s", got[i], all[i].Text, want)
		}
		if again := sections(t, all[i].Text); len(again) != 1 || again[0] != all[i] {
			t.Errorf("%s, cut again: %+v", got[i], again)
		}
	}
	for _, kind := range Kinds {
		if all := sections(t, "[["+kind+"]]\nname = \"x\"\n"); len(all) != 1 || all[0].Kind != kind || all[0].Name != "x" {
			t.Errorf("%s: %+v", kind, all)
		}
	}
	if all, _, err := base(t).Apply(objects.Set{}, Source{Name: "stdin"}); err != nil || len(all) != 0 {
		t.Errorf("nothing: %+v, %v", all, err)
	}
}

// base is a node to which something is applied.
func base(t *testing.T) *Config {
	t.Helper()
	cfg, err := Parse("node.toml", []byte("[node]\nname = \"a\"\n\n[[pool]]\nname = \"day\"\nbandwidth = \"1MB/s\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// sections are those of a text, whatever else is wrong with it.
func sections(t *testing.T, text string) []objects.Object {
	t.Helper()
	all, _, _ := base(t).Apply(objects.Set{}, Source{Name: "stdin", Text: []byte(text)})
	return all
}

// TestSectionsRefused: what is no object is refused with its line, and what to write.
func TestSectionsRefused(t *testing.T) {
	for text, want := range map[string][]string{
		"[node]\nname = \"x\"\n":                             {"stdin:1:", `"node" cannot be applied while a node runs`, "sections here: partner, rule"},
		"\n\n[[partners]]\nname = \"x\"\n":                   {"stdin:3:", `did you mean "partner"?`},
		"[[relay]]\nname = \"x\"\n":                          {"stdin:1:", "it is for the node's file"},
		"name = \"x\"\n":                                     {"stdin:1:", `"name" cannot be applied`},
		"[partner]\nname = \"x\"\n":                          {"stdin:1:", "a partner is a section of its own", "write [[partner]]"},
		"[[pool]]\nname = \"a\"\n[[partner]]\nkey = \"y\"\n": {"stdin:3:", "name is missing: what the partner is called"},
		"[[partner]]\nname = 5\n":                            {"stdin:2:", "name"},
		"partner = [ { name = \"x\" } ]\n":                   {"each object is a section of its own", "as [[partner]]"},
		"[[partner]]\nname = \"x\nkey = 1\n":                 {"stdin:2:"},
		"[[partner]]\nname = \"x\"\nname = \"y\"\n":          {"stdin:3:", "name"},
		"[[pool]]\nname = \"\xff\"\n":                        {"stdin:"},
	} {
		all, _, err := base(t).Apply(objects.Set{}, Source{Name: "stdin", Text: []byte(text)})
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v, %d objects", text, err, len(all))
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v\nwant %q", text, err, w)
			}
		}
	}
}

// TestApplyTellsAll: whatever is wrong with texts that are to be applied is told at once, with its
// text, line, key and what to write: also beside a section that is for the file, one without a name,
// and one that the file has.
func TestApplyTellsAll(t *testing.T) {
	const first = `[node]
nam = "x"

[[rule]]
direction = "sideways"
partners = ["hostb"]
root = "srv"
quotta = "1GB"

[partner]
name = "p"

[[pool]]
name = "day"
bandwidth = "1MB/s"
`
	const second = "[[folder]]\nname = \"f\"\ndir = \"out\"\n[[pool]]\nname = \"day\"\nbandwidth = \"fast\"\n"
	_, _, err := base(t).Apply(objects.Set{}, Source{Name: "one.toml", Text: []byte(first)}, Source{Name: "two.toml", Text: []byte(second)})
	if fault.KindOf(err) != fault.Invalid {
		t.Fatal(err)
	}
	for _, want := range []string{
		`one.toml:1:2: "node" cannot be applied while a node runs`, "sections here: partner, rule",
		"one.toml:4:3: name is missing: what the rule is called", `one.toml:5:13: `, `one.toml:6:13: no partner is called "hostb"`,
		`one.toml:7:8: "srv" is not a whole path`, `one.toml:8:1: unknown key "quotta"; did you mean "quota"?`,
		"one.toml:10:2: a partner is a section of its own", "write [[partner]]",
		"one.toml:14:8: pool day is in the node's file, node.toml:5", "change it there, then pannier reload",
		"two.toml:1:3: rule is missing", "two.toml:1:3: partner is missing", `two.toml:6:13: `,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	one := Source{Name: "one.toml", Text: []byte("[[pool]]\nname = \"day\"\nbandwidth = \"2MB/s\"\n")}
	if _, _, err := base(t).Apply(objects.Set{}, one); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "one.toml:2:8: pool day is in the node's file, node.toml:5") {
		t.Errorf("what the file has: %v", err)
	}
	twice := Source{Name: "one.toml", Text: []byte("[[pool]]\nname = \"x\"\nbandwidth = \"2MB/s\"\n[[pool]]\nname = \"x\"\nbandwidth = \"2MB/s\"\n")}
	if _, _, err := base(t).Apply(objects.Set{}, twice); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "the other one is at one.toml:2") {
		t.Errorf("twice: %v", err)
	}
}
