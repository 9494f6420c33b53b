package config

import (
	"strings"
	"testing"
)

// TestSyntaxHints: who writes what is no TOML is told what is, where it can be guessed, and nothing
// that is no TOML either.
func TestSyntaxHints(t *testing.T) {
	for line, want := range map[string]string{
		`name = hosta`:                         `a text stands in quotes: name = "hosta"`,
		`name = hosta # this one`:              `a text stands in quotes: name = "hosta"`,
		`state = /var/lib/pannier`:             `a text stands in quotes: state = "/var/lib/pannier"`,
		`x = [ { task = "chmod", m = 0640 } ]`: `a text stands in quotes: m = "0640"`,
		`drain = 30s`:                          `a text stands in quotes: drain = "30s"`,
		`quota = 10 GB`:                        `a text stands in quotes: quota = "10 GB"`,
		`name = “hosta”`:                       `write straight quotes: "`,
		`root = "C:\Users\x"`:                  `a backslash begins an escape: write \\ for one, or the whole text in single quotes`,
		`root = "D:\data"`:                     `a backslash begins an escape: write \\ for one, or the whole text in single quotes`,
		`name = "hosta`:                        `the text does not end in its line: close it with "`,
		`name = 'hosta`:                        `the text does not end in its line: close it with '`,
		`listen = ["a" "b"]`:                   `a comma stands between values`,
		`wait = True`:                          `write true or false`,
		`wait = yes`:                           `write true or false`,
		`name =`:                               `write what is behind =, as name = "..."`,
		`; a comment`:                          `a comment begins with #`,
		`// a comment`:                         `a comment begins with #`,
		`node:`:                                `TOML is neither YAML nor JSON: write [node] and below it name = "hosta"`,
		`{"node": {"name": "hosta"}}`:          `TOML is neither YAML nor JSON: write [node] and below it name = "hosta"`,
		`[node`:                                ``,
		`factor = 1,5`:                         ``,
		`name = "a" "b"`:                       ``,
	} {
		_, err := Parse("x.toml", []byte("\n"+line+"\n"))
		if err == nil {
			t.Errorf("%s: it is TOML", line)
			continue
		}
		text := err.Error()
		if i := strings.Index(text, "\n    = "); want == "" && i >= 0 || want != "" && (i < 0 || text[i+len("\n    = "):] != want) {
			t.Errorf("%s: want %q, said is\n%s", line, want, text)
		}
	}
}

// FuzzSyntaxHint: whatever a line is, there is an answer.
func FuzzSyntaxHint(f *testing.F) {
	f.Add("a = “b”", 4)
	f.Fuzz(func(_ *testing.T, line string, at int) {
		if at >= 0 && at <= len(line) {
			syntaxHint(line, at)
		}
	})
}
