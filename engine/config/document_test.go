package config

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/task"
)

// rows are the cells of the table below a heading of spec/config.md.
func rows(t *testing.T, doc, heading string) (all [][]string) {
	_, rest, ok := strings.Cut(doc, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("spec/config.md has no %s", heading)
	}
	for _, line := range strings.Split(rest, "\n") {
		if strings.HasPrefix(line, "#") {
			break
		}
		if strings.HasPrefix(line, "| `") {
			all = append(all, strings.Split(strings.Trim(line, "|"), "|"))
		}
	}
	return all
}

// TestDocumented: the tables of spec/config.md have every key, in order, with its
// shape and default, and no other.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../spec/config.md")
	if err != nil {
		t.Fatal(err)
	}
	for heading, shape := range map[string]reflect.Type{
		"## `[node]`": reflect.TypeFor[nodeTable](), "## `[http]`": reflect.TypeFor[httpTable](), "## `[[partner]]`": reflect.TypeFor[partnerTable](), "## `[[rule]]`": reflect.TypeFor[ruleTable](),
		"## `[[relay]]`": reflect.TypeFor[relayTable](), "### `ports`": reflect.TypeFor[portTable](), "## `[[relay_policy]]`": reflect.TypeFor[policyTable](),
		"### `limits`": reflect.TypeFor[limitsTable](), "## `[[bridge]]`": reflect.TypeFor[bridgeTable](),
		"## `[[token]]`":    reflect.TypeFor[tokenTable](),
		"## `[[expect]]`":   reflect.TypeFor[expectTable](),
		"## `[[pool]]`":     reflect.TypeFor[poolTable](),
		"## `[[schedule]]`": reflect.TypeFor[scheduleTable](),
		"## `[[folder]]`":   reflect.TypeFor[folderTable](), "## `[[listener]]`": reflect.TypeFor[listenerTable](), "### `users`": reflect.TypeFor[userTable](),
		"## `[audit]`": reflect.TypeFor[auditTable](), "## `[push]`": reflect.TypeFor[pushTable](),
		"### `retry`": reflect.TypeFor[retryTable](), "### Tasks": reflect.TypeFor[task.Table](),
	} {
		table := rows(t, string(text), heading)
		if len(table) != shape.NumField() {
			t.Errorf("%s has %d keys, the code %d", heading, len(table), shape.NumField())
			continue
		}
		for i, row := range table {
			f := shape.Field(i)
			short, _, _ := strings.Cut(shapeOf(f.Type), ", as ")
			want := []string{"`" + f.Tag.Get("toml") + "`", short, strings.TrimSpace(row[2])}
			if text, ok := f.Tag.Lookup("default"); ok {
				want[2] = "`" + text + "`"
			}
			for c := range want {
				if got := strings.TrimSpace(row[c]); got != want[c] || got == "" {
					t.Errorf("%s: row %d has %q, want %q", heading, i+1, got, want[c])
				}
			}
		}
	}
}

// TestEveryTextHasAShape: a type that is read from a text says how it is written.
func TestEveryTextHasAShape(t *testing.T) {
	var walk func(reflect.Type)
	walk = func(r reflect.Type) {
		switch {
		case reflect.PointerTo(r).Implements(textType):
			if shapes[r] == "" {
				t.Errorf("%v has no shape", r)
			}
		case r.Kind() == reflect.Slice || r.Kind() == reflect.Pointer:
			walk(r.Elem())
		case r.Kind() == reflect.Struct:
			for i := range r.NumField() {
				walk(r.Field(i).Type)
			}
		}
	}
	walk(reflect.TypeFor[file]())
}
