package command

import (
	"strings"
	"testing"
)

var table = Table{Header: []string{"case", "GiB/s"}, Rows: [][]string{{"raw-tcp", "12.25"}, {"ä", "1"}, {"a\tb\n\x1b", "-"}}}

func TestTableOnTerminal(t *testing.T) {
	const want = `case        GiB/s
raw-tcp     12.25
ä               1
a\tb\n\x1b      -
`
	var b strings.Builder
	if err := table.WriteTerminal(&b, 0); err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// TestTableFits: only what may be cut is, the widest first, and not to nothing.
func TestTableFits(t *testing.T) {
	wide := Table{Header: []string{"ID", "FILE", "SIZE", "ERROR"}, Align: "lcrc", Rows: [][]string{
		{"0123456789", "a/long/name/of/a/file", "5", "it did not work"}, {"1", "b", "1000", ""},
	}}
	for width, want := range map[int]string{
		0:  "ID          FILE                   SIZE  ERROR\n0123456789  a/long/name/of/a/file     5  it did not work\n1           b                      1000\n",
		40: "ID          FILE        SIZE  ERROR\n0123456789  a/long/na…     5  it did no…\n1           b           1000\n",
		10: "ID          FILE      SIZE  ERROR\n0123456789  a/long/…     5  it did …\n1           b         1000\n",
	} {
		var b strings.Builder
		if err := wide.WriteTerminal(&b, width); err != nil || b.String() != want {
			t.Errorf("%d: %v\n%s\nwant\n%s", width, err, b.String(), want)
		}
	}
}

func TestTableElsewhere(t *testing.T) {
	var b strings.Builder
	const want = "case\tGiB/s\nraw-tcp\t12.25\nä\t1\na\\tb\\n\\x1b\t-\n"
	if err := table.Write(&b); err != nil || b.String() != want {
		t.Errorf("%v\n%q", err, b.String())
	}
}

func TestWriteJSON(t *testing.T) {
	var b strings.Builder
	if err := WriteJSON(&b, struct{ A int }{1}, struct{ A int }{2}); err != nil || b.String() != "{\"A\":1}\n{\"A\":2}\n" {
		t.Errorf("%v %q", err, b.String())
	}
}
