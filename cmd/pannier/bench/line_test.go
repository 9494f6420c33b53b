package bench

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func TestEndAnswers(t *testing.T) {
	serve := `{"role":"serve","bench":"transfer","case":"raw-tcp","addr":"","dir":"` + t.TempDir() + `","size":1,"concurrent":1,"lanes":0}` + "\n"
	for _, c := range []struct {
		name, in string
		kinds    []fault.Kind // of the answers; 0: no failure
		broken   bool         // End itself fails
	}{
		{"nothing", "", nil, true},
		{"no JSON", "hello\n", nil, true},
		{"unknown field", `{"colour":"red"}` + "\n", nil, true},
		{"too long", `{"bench":"` + strings.Repeat("x", maxLine) + "\"}\n", nil, true},
		{"unknown case", `{"bench":"transfer","case":"x"}` + "\n", []fault.Kind{fault.Invalid}, false},
		{"unknown role", `{"bench":"transfer","case":"raw-tcp"}` + "\n", []fault.Kind{fault.Protocol}, false},
		{"nobody there", `{"role":"connect","bench":"transfer","case":"raw-tcp","addr":"127.0.0.1:1","concurrent":1}` + "\n", []fault.Kind{fault.Lost}, false},
		{"usage", serve + `{"verb":"usage"}` + "\n", []fault.Kind{0, 0}, false},
		{"move at the wrong end", serve + `{"verb":"move"}` + "\n", []fault.Kind{0, fault.Protocol}, false},
		{"second line broken", serve + "}\n", []fault.Kind{0}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			err := End(t.Context(), strings.NewReader(c.in), &out)
			if (err != nil) != c.broken {
				t.Errorf("End: %v", err)
			}
			answers := newLineReader(&out)
			for i, kind := range c.kinds {
				var r reply
				if err := answers.read(&r); err != nil || r.Kind != kind {
					t.Errorf("answer %d: %+v, %v, want %v", i, r, err, kind)
				}
			}
			if err := answers.read(&reply{}); !errors.Is(err, io.EOF) {
				t.Errorf("one answer too many: %v", err)
			}
		})
	}
}

func TestOrdersAtTheConnectedEnd(t *testing.T) {
	for _, c := range []struct {
		order order
		kind  fault.Kind
	}{
		{order{Verb: verbUsage}, 0},
		{order{Verb: verbCalls, Count: -1}, fault.Protocol},
		{order{Verb: verbCalls, Count: maxCount + 1}, fault.Protocol},
		{order{Verb: verbCalls}, fault.Protocol}, // a raw client cannot call
		{order{Verb: verbBeside}, fault.Protocol},
		{order{Verb: "dance"}, fault.Protocol},
	} {
		if r := obey(t.Context(), &rawClient{}, Job{}, c.order); r.Kind != c.kind {
			t.Errorf("%+v: %+v", c.order, r)
		}
	}
}

func TestReplyCarriesTheKind(t *testing.T) {
	var b bytes.Buffer
	if err := writeLine(&b, failure(fault.New("write", fault.NoSpace, "disk full"))); err != nil {
		t.Fatal(err)
	}
	var r reply
	if err := newLineReader(&b).read(&r); err != nil {
		t.Fatal(err)
	}
	if err := r.err("end"); !errors.Is(err, fault.NoSpace) {
		t.Error(err)
	}
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{`{"verb":"usage"}`, `{"verb":"calls","count":5}`, `{}`, `{"verb":1}`, `{} {}`, `[`, "null", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var o order
		if err := parseLine(text, &o); err != nil {
			if fault.KindOf(err) != fault.Protocol {
				t.Fatal(err)
			}
			return
		}
		var b bytes.Buffer
		if err := writeLine(&b, o); err != nil {
			t.Fatal(err)
		}
		var again order
		if err := parseLine(b.String(), &again); err != nil || !reflect.DeepEqual(o, again) {
			t.Fatalf("%+v became %+v: %v", o, again, err)
		}
	})
}

func TestSplitScheme(t *testing.T) {
	for addr, want := range map[string][2]string{
		"127.0.0.1:5":       {"", "127.0.0.1:5"},
		"tls://127.0.0.1:5": {"tls://", "127.0.0.1:5"},
		"unix:///a":         {"unix://", "/a"},
	} {
		if scheme, rest := splitScheme(addr); scheme != want[0] || rest != want[1] {
			t.Errorf("%s: %q %q", addr, scheme, rest)
		}
	}
	if _, _, err := startEmulator(Link{}, "unix:///a"); !errors.Is(err, fault.Unsupported) {
		t.Error(err)
	}
}
