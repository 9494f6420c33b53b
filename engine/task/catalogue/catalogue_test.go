package catalogue

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/task"
)

// TestDocumented: spec/tasks.md has every task with the keys that it looks at, whether it
// is idempotent and what a crash repeats.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../../spec/tasks.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, kind := range Tasks() {
		found := false
		for line := range strings.SplitSeq(string(doc), "\n") {
			cells := strings.Split(line, "|")
			if len(cells) != 7 || !strings.Contains(cells[1], "`"+name+"`") {
				continue
			}
			found = true
			if want := " `" + strings.Join(kind.Keys, "`, `") + "` "; cells[3] != want {
				t.Errorf("spec/tasks.md gives %s the settings%s, the code%s", name, cells[3], want)
			}
			if strings.TrimSpace(cells[4]) == "" || strings.TrimSpace(cells[5]) == "" {
				t.Errorf("spec/tasks.md does not say what a second run of %s does", name)
			}
		}
		if !found {
			t.Errorf("spec/tasks.md does not have %s", name)
		}
	}
}

// TestKeys: every key of a table is looked at by a task, and every task looks at keys
// that there are.
func TestKeys(t *testing.T) {
	used := map[string]bool{"task": true, "timeout": true}
	for _, kind := range Tasks() {
		for _, key := range kind.Keys {
			used[key] = true
		}
	}
	var keys []string
	for i := range reflect.TypeFor[task.Table]().NumField() {
		key := reflect.TypeFor[task.Table]().Field(i).Tag.Get("toml")
		keys = append(keys, key)
		if !used[key] {
			t.Errorf("no task looks at %s", key)
		}
	}
	for key := range used {
		if !slices.Contains(keys, key) {
			t.Errorf("there is no key %s", key)
		}
	}
}
