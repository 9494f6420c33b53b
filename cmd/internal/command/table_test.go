package command

import (
	"strings"
	"testing"
)

var table = Table{Header: []string{"case", "GiB/s"}, Rows: [][]string{{"raw-tcp", "12.25"}, {"ä", "1"}, {"a\tb\n\x1b", "-"}}}

func TestTableOnTerminal(t *testing.T) {
	const want = `  case        GiB/s
  raw-tcp     12.25
  ä               1
  a\tb\n\x1b      -
`
	var b strings.Builder
	if err := table.align(&b); err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, b.String())
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
