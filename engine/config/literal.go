package config

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/pannier/pannier/engine/task"
)

// Variables as other tools write them, which a node takes as they stand.

// elsewhere is how transfer monitors, shells and batch files write one: #DATE#, $DATE, ${DATE}, %DATE%.
var elsewhere = regexp.MustCompile(`#(\w+)#|\$\{([A-Za-z]\w*)\}|\$([A-Za-z]\w*)|%([A-Za-z]\w*)%`)

// called is what is called otherwise there, in lower case.
var called = map[string]string{
	"truefullpath": "path", "originalfullpath": "path", "fullpath": "path", "filepath": "path", "truefilename": "name", "originalfilename": "name",
	"filename": "name", "file": "name", "basename": "name", "dirname": "dir", "extension": "ext", "filesize": "size", "hour": "time", "remotehost": "partner",
	"localhost": "node", "hostname": "node", "host": "node", "transferid": "id", "fulltransferid": "id", "requesterhost": "requester",
	"errormsg": "error.text", "errorstrcode": "error.text", "errorcode": "error.code",
}

// templates are the keys of tasks that may have variables, argv apart.
var templates = []string{"to", "path", "text", "subject", "info", "from", "digest"}

// ofTimes are the variables of schedules.
var ofTimes = []string{"date", "time", "year", "month", "day", "hour", "minute", "yesterday", "path", "name", "stem", "ext"}

// ownLanguage are programs whose arguments have a $ of their own.
var ownLanguage = []string{"awk", "gawk", "mawk", "sed", "perl", "jq", "xargs"}

// Literals are warnings of texts of tasks and schedules that look as if they were to have variables, and have none:
// each with its place, and what to write.
func (c *Config) Literals() []string {
	l := literals{document: &c.text}
	root := c.text.root
	if root == nil { // it was not read from a text
		return nil
	}
	for _, rule := range list(root, "rule") {
		for _, side := range []*value{rule, rule.fields["sender"], rule.fields["receiver"]} {
			for _, name := range []string{"pre", "post", "error"} {
				for _, t := range list(side, name) {
					l.task(t)
				}
			}
		}
	}
	for _, s := range list(root, "schedule") {
		for _, key := range []string{"source", "target"} {
			l.text(s.fields[key], key, func(name string) bool { return slices.Contains(ofTimes, name) })
		}
	}
	return l.warnings
}

// list is a table's list of that name, of which there may be neither.
func list(table *value, name string) []*value {
	if table == nil || table.fields[name] == nil {
		return nil
	}
	return table.fields[name].items
}

type literals struct {
	*document
	warnings []string
}

func isVariable(name string) bool {
	_, err := task.ParseTemplate("{" + name + "}")
	return err == nil
}

func (l *literals) task(t *value) {
	for _, key := range templates {
		l.text(t.fields[key], key, isVariable)
	}
	argv := list(t, "argv")
	shell := slices.ContainsFunc(argv, func(v *value) bool {
		return len(v.text) < 4 && strings.HasPrefix(v.text, "-") && strings.ContainsAny(v.text, "ce")
	})
	if len(argv) > 0 {
		shell = shell || slices.Contains(ownLanguage, path.Base(argv[0].text))
	}
	for _, v := range argv {
		l.text(v, "argv", func(name string) bool { return isVariable(name) && !(shell && strings.Contains(v.text, "$")) })
	}
}

// text warns of what a text has of another tool's that would be a variable here.
func (l *literals) text(v *value, key string, known func(string) bool) {
	if v == nil || v.kind != unstable.String {
		return
	}
	for _, found := range elsewhere.FindAllStringSubmatch(v.text, -1) {
		name := strings.ToLower(strings.Join(found[1:], ""))
		if !known(name) {
			name = called[name]
		}
		if name == "" || !known(name) {
			continue
		}
		line, _, _ := l.head(&problem{at: v.place, text: fmt.Sprintf("%s: %s is no variable here, and stays as it is: write {%s}", key, found[0], name)})
		l.warnings = append(l.warnings, line)
		return // the others are of the same hand
	}
}
