package config

import (
	"slices"
	"strings"
	"testing"

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
	all, err := Sections("stdin", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
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
		again, err := Sections("", []byte(all[i].Text))
		if err != nil || len(again) != 1 || again[0] != all[i] {
			t.Errorf("%s, cut again: %+v, %v", got[i], again, err)
		}
	}
	for _, kind := range Kinds {
		all, err := Sections("", []byte("[["+kind+"]]\nname = \"x\"\n"))
		if err != nil || len(all) != 1 || all[0].Kind != kind || all[0].Name != "x" {
			t.Errorf("%s: %+v, %v", kind, all, err)
		}
	}
	if all, err := Sections("", nil); err != nil || len(all) != 0 {
		t.Errorf("nothing: %+v, %v", all, err)
	}
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
		"[[partner]]\nname = 5\n":                            {"stdin:1:", "name is missing"},
		"partner = [ { name = \"x\" } ]\n":                   {"each object is a section of its own", "as [[partner]]"},
		"[[partner]]\nname = \"x\nkey = 1\n":                 {"stdin:2:"},
		"[[partner]]\nname = \"x\"\nname = \"y\"\n":          {"stdin:3:", "name"},
		"[[pool]]\nname = \"\xff\"\n":                        {"stdin:"},
	} {
		all, err := Sections("stdin", []byte(text))
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
