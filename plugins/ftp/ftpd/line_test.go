package ftpd

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/pannier/pannier/plugins"
)

// FuzzCommand: whatever comes, a line becomes a command that cannot hurt: names are those of
// CheckName, replies are lines of their own number.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{"", "\r\n", "STOR a\r\n", "\xff\xf4\xff\xf2ABOR\r\n", "CWD ../..\n", "PORT 1,2,3,4,5,6\r\n", "EPRT |1|::|1|\r\n", "X\xff\xff\xff", "MKD a\rb\n", "SIZE \x00\n", strings.Repeat("a", 6000)} {
		f.Add([]byte(s), "/")
	}
	f.Fuzz(func(t *testing.T, b []byte, cwd string) {
		r := bufio.NewReaderSize(bytes.NewReader(b), maxLine)
		for {
			line, err := readLine(r)
			if err != nil {
				return
			}
			cmd := parseCommand(line)
			if strings.ContainsAny(cmd.verb, " \r\n") || strings.Contains(cmd.arg, "\n") || len(cmd.arg) > maxLine {
				t.Fatalf("%q becomes %+v", line, cmd)
			}
			if plugins.CheckName(cwd) != nil {
				cwd = "/"
			}
			if name, err := resolve(cwd, cmd.arg); err == nil && plugins.CheckName(name) != nil {
				t.Fatalf("%q in %q is %q", cmd.arg, cwd, name)
			}
			if text := (reply{211, []string{cmd.arg, cmd.arg, cmd.arg}}).text(); strings.Count(text, "\n") != 3 || strings.Count(text, "\r") != 3 {
				t.Fatalf("%q", text)
			}
			_ = withoutFlags(cmd.arg)
		}
	})
}

// TestCommands: the parts of a line.
func TestCommands(t *testing.T) {
	for line, want := range map[string]command{
		"STOR a b \r\n":                    {verb: "STOR", arg: "a b "},
		"stor  a\n":                        {verb: "STOR", arg: " a"},
		"PWD":                              {verb: "PWD"},
		"PWD \r\n":                         {verb: "PWD"},
		"PWD\r\r\n":                        {},
		"\xff\xf4\xff\xf2ABOR\r\n":         {verb: "ABOR"},
		"\xff\xf4\xf2ABOR\r\n":             {verb: "ABOR"},
		"\xf2ABOR\r\n":                     {verb: "ABOR"},
		"\xff\xfd\x06\xff\xfb\x01NOOP\n":   {verb: "NOOP"},
		"SIZE \xc3\xbc\xff\xff\n":          {verb: "SIZE", arg: "\xc3\xbc\xff"},
		"SIZE \xff\n":                      {verb: "SIZE", arg: "\xff"},
		"ABORT\n":                          {},
		"AB\n":                             {},
		"AB1\n":                            {},
		" PWD\n":                           {},
		"GET\thttp\n":                      {},
		"STOR\ta\n":                        {},
		"STOR a\rRNFR b\n":                 {verb: "STOR", arg: "a\rRNFR b"},
		strings.Repeat("a", 4000) + " b\n": {},
	} {
		if got := parseCommand([]byte(line)); got != want {
			t.Errorf("%.40q is %+v", line, got)
		}
	}
}
