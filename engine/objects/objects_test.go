package objects

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

func object(kind, name, text string) Object {
	return Object{Kind: kind, Name: name, Text: text, Revision: 7, Changed: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), By: "token ci"}
}

func TestSet(t *testing.T) {
	var s Set
	for _, o := range []Object{object("rule", "b", "1"), object("partner", "b", "2"), object("rule", "a", "3"), object("rule", "b", "4")} {
		before := s
		s = s.With(o)
		if before.Find(o.Kind, o.Name) == nil != (len(s.Objects) > len(before.Objects)) {
			t.Errorf("%s %s: %d objects, then %d", o.Kind, o.Name, len(before.Objects), len(s.Objects))
		}
	}
	var order []string
	for _, o := range s.Objects {
		order = append(order, o.Kind+" "+o.Name+" "+o.Text)
	}
	if want := []string{"partner b 2", "rule a 3", "rule b 4"}; !reflect.DeepEqual(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
	less := s.Without("rule", "b").Without("rule", "none")
	if less.Find("rule", "b") != nil || less.Find("partner", "b") == nil || s.Find("rule", "b") == nil {
		t.Errorf("%v without one is %v", s, less)
	}
}

func TestKept(t *testing.T) {
	dir := t.TempDir()
	if s, err := Read(dir); err != nil || len(s.Objects) > 0 {
		t.Errorf("%v, %v", s, err)
	}
	want := Set{Revision: 9}.With(object("partner", "hostb", "[[partner]]\nname = \"<&\"\n"))
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	want.Format = format
	if s, err := Read(dir); err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("%+v, want %+v, %v", s, want, err)
	}
	path := filepath.Join(dir, File)
	for _, c := range []struct {
		text string
		kind fault.Kind
		says string
	}{
		{`{"format":1,"objects":[`, fault.Corrupt, "put back a copy"},
		{`[]`, fault.Corrupt, "put back a copy"},
		{`{"format":2}`, fault.Unsupported, "run the version that has written it"},
		{`{}`, fault.Unsupported, "format 0"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.text, err)
		}
	}
}
