package main

import (
	"bytes"
	"context"
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func TestTable(t *testing.T) {
	last := 0
	for _, c := range table() {
		if c.id <= last || c.title == "" || c.unit == "" || c.mutant == "" || c.run == nil || c.n.reduced <= 0 || c.n.full < c.n.reduced {
			t.Errorf("check %d is not in order or not complete", c.id)
		}
		last = c.id
	}
}

// TestEditsApply: every edit still finds its place, and what comes of it is Go.
func TestEditsApply(t *testing.T) {
	m := &mutants{dir: t.TempDir()}
	m.overlay = filepath.Join(m.dir, "overlay.json")
	if err := m.write(filepath.Join("..", ".."), table()); err != nil {
		t.Fatal(err)
	}
	var o struct{ Replace map[string]string }
	text, err := os.ReadFile(m.overlay)
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil || len(o.Replace) == 0 {
		t.Fatal(err)
	}
	for path, copied := range o.Replace {
		f, err := parser.ParseFile(token.NewFileSet(), copied, nil, 0)
		if name := filepath.Base(filepath.Dir(path)); err != nil || f.Name.Name != name && name != "scorecard" {
			t.Errorf("%s: %v", path, err)
		}
	}
	bad := []check{{id: 1, edits: []edit{{"spec/scorecard/doc.go", "nowhere to be found", ""}}}}
	if err := m.write(filepath.Join("..", ".."), bad); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an edit without a place: %v", err)
	}
}

// TestControlHasToFail: a check whose mutant changes nothing does not pass.
func TestControlHasToFail(t *testing.T) {
	fake := func(passes func(broken bool) bool) check {
		return check{id: 1, n: counts{reduced: 1, full: 1}, run: func(_ context.Context, j *job) (result, error) {
			return result{figure: 7, pass: passes(j.broken)}, nil
		}}
	}
	for _, c := range []struct {
		name   string
		passes func(broken bool) bool
		want   bool
	}{
		{"good", func(broken bool) bool { return !broken }, true},
		{"blind", func(bool) bool { return true }, false},
		{"always failing", func(bool) bool { return false }, false},
	} {
		var out bytes.Buffer
		failed, err := scorecard(t.Context(), []check{fake(c.passes)}, options{json: true}, &out)
		var r row
		if err != nil || json.Unmarshal(out.Bytes(), &r) != nil {
			t.Fatalf("%s: %v, %s", c.name, err, out.String())
		}
		if r.Pass != c.want || (failed == 0) != c.want || r.Figure != 7 {
			t.Errorf("%s: %+v, %d failed", c.name, r, failed)
		}
	}
}

func TestReadTest(t *testing.T) {
	const head = `{"Action":"run","Test":"TestX"}` + "\n"
	for _, c := range []struct {
		name, out string
		ran       bool
		want      result
	}{
		{"reported", head + `{"Action":"attr","Test":"TestX","Key":"figure","Value":"1.5"}
{"Action":"attr","Test":"TestX","Key":"detail","Value":"so"}
{"Action":"pass","Test":"TestX"}`, true, result{1.5, true, "so"}},
		{"counted", head + `{"Action":"pass","Test":"TestX/1"}
{"Action":"output","Test":"TestX","Output":"    x_test.go:3: fine\n"}
{"Action":"pass","Test":"TestX/2"}
{"Action":"pass","Test":"TestX"}`, true, result{2, true, "x_test.go:3: fine"}},
		{"failed", head + `{"Action":"fail","Test":"TestX"}`, true, result{}},
		{"skipped", head + `{"Action":"skip","Test":"TestX"}`, false, result{}},
		{"another", `{"Action":"pass","Test":"TestXY"}`, false, result{}},
		{"nothing", "", false, result{}},
	} {
		if r, ran := readTest([]byte(c.out), "TestX"); r != c.want || ran != c.ran {
			t.Errorf("%s: %+v, ran %v", c.name, r, ran)
		}
	}
}

func TestArguments(t *testing.T) {
	for args, want := range map[string]int{"--only 999": exitCouldNot, "--only x": exitCouldNot, "--nonsense": exitCouldNot, "serve": exitCouldNot, "--help": 0} {
		if code := run(t.Context(), strings.Fields(args), new(bytes.Buffer), new(bytes.Buffer)); code != want {
			t.Errorf("%s: exit code %d, want %d", args, code, want)
		}
	}
}
