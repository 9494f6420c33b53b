package config

import (
	"slices"
	"strings"
	"testing"
)

// TestLiterals: a variable as another tool writes it is warned of, once in each text, with the one that
// is meant, where there is one; what a shell is to make of its own is not.
func TestLiterals(t *testing.T) {
	const before = "node = { name = \"a\" }\n[[rule]]\nname = \"r\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"/srv/r\"\n"
	for text, want := range map[string]string{
		`pre = [ { task = "move", to = "in/#DATE#/#TRUEFILENAME#" } ]`:                                           "to: #DATE# is no variable here, and stays as it is: write {date}",
		`receiver.post = [ { task = "copy", to = "$NAME.bak" } ]`:                                                "to: $NAME is no variable here, and stays as it is: write {name}",
		`error = [ { task = "log", text = "%FileName% has failed" } ]`:                                           "text: %FileName% is no variable here, and stays as it is: write {name}",
		`sender.post = [ { task = "copy", to = "${name}.bak" } ]`:                                                "to: ${name} is no variable here, and stays as it is: write {name}",
		`post = [ { task = "exec", argv = ["/bin/cp", "$FILE", "/srv"] } ]`:                                      "argv: $FILE is no variable here, and stays as it is: write {name}",
		`post = [ { task = "exec", argv = ["/bin/cp", "#ORIGINALFULLPATH#"] } ]`:                                 "argv: #ORIGINALFULLPATH# is no variable here, and stays as it is: write {path}",
		`post = [ { task = "exec", argv = ["/bin/sh", "-c", "name=$1; cp $name x", "{name}"] } ]`:                "",
		`post = [ { task = "exec", argv = ["/usr/bin/awk", "{{print $date}}", "{path}"] } ]`:                     "",
		`post = [ { task = "move", to = "in/{date}/{name}" } ]`:                                                  "",
		`post = [ { task = "log", text = "5 $ each, #1 of 3, 100%" } ]`:                                          "",
		`post = [ { task = "log", text = "$nothing like #that# of %ours%" } ]`:                                   "",
		"[[schedule]]\nname = \"s\"\ncron = \"@daily\"\nrule = \"r\"\npartner = \"a\"\nsource = \"x-$YEAR.csv\"": "source: $YEAR is no variable here, and stays as it is: write {year}",
	} {
		cfg, err := Parse("a.toml", []byte(before+text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := cfg.Literals()
		if want == "" && got != nil || want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], "a.toml:") || !strings.HasSuffix(got[0], ": "+want)) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if got := new(Config).Literals(); !slices.Equal(got, nil) {
		t.Error(got)
	}
}
