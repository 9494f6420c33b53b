package folder

import (
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

// TestDoneNames: a template has one variable or none, and any name of a done file is of the file
// that it says.
func TestDoneNames(t *testing.T) {
	for template, why := range map[string]string{
		"": "", "READY": "", "{name}.done": "", "{stem}.ok": "", ".{name}": "", "done-{stem}-x": "",
		"{name}":              "fits any file",
		"{name}.{stem}.done":  "fits any file",
		"{stem}{stem}":        "fits any file",
		"{name}{name}.done":   "fits any file",
		"{what}.done":         "no name of a file beside it",
		"done/{name}":         "no name of a file beside it",
		"{name}.{other}.done": "fits any file",
	} {
		switch err := CheckDoneFile(template); {
		case why == "" && err != nil:
			t.Errorf("%q is refused: %v", template, err)
		case why != "" && (fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), why)):
			t.Errorf("%q: want %q, is %v", template, why, err)
		}
	}
	for _, tc := range []struct {
		template, name string
		is             bool
	}{
		{"{name}.done", "a.done", true}, {"{name}.done", ".done", false}, {"{name}.done", "a.don", false},
		{"done-{stem}-x", "done-a-x", true}, {"done-{stem}-x", "done--x", false}, {"done-{stem}-x", "done-x", false},
		{"READY", "READY", true}, {"READY", "READY2", false}, {"", "a", false},
	} {
		if is := isDone(tc.template, tc.name); is != tc.is {
			t.Errorf("isDone(%q, %q) is %v", tc.template, tc.name, is)
		}
	}
}
