package relpath_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// hostile generates names that must all be refused.
func hostile() []string {
	bad := []string{"", ".", "..", "/", "//", "a//b", "/a", "a/", "a/./b", "./a", "a/.", "a/..", "../a", `\`, `a\b`, `..\a`, `C:\a`,
		strings.Repeat("a", 256), strings.Repeat("a", 1025), strings.Repeat("a/", 600) + "a", strings.Repeat("é", 128),
		"a\u2028b", "a\u2029b", "\xff", "a/\xc0\xaf/b", "\xed\xa0\x80", "a\xe2\x82"}
	for c := rune(0); c < 0xa0; c++ {
		if c < 0x20 || c >= 0x7f {
			bad = append(bad, string(c), "a"+string(c), string(c)+"a", "d/"+string(c)+"/f")
		}
	}
	for up := 1; up <= 12; up++ {
		climb := strings.Repeat("../", up)
		for _, tail := range []string{"etc/passwd", "", ".", "a/", `a\b`} {
			bad = append(bad, climb+tail, "a/"+climb+tail, "a/b/c/"+climb+tail, "/"+climb+tail)
		}
	}
	for i := range 16 {
		bad = append(bad, strings.Repeat("a/", i)+"..", strings.Repeat("a/", i)+"../b", strings.Repeat("a/", i)+"/b", strings.Repeat("a/", i)+"./b")
	}
	return bad
}

func TestHostileNames(t *testing.T) {
	t.Parallel()
	names := hostile()
	if len(names) < 500 {
		t.Fatalf("the corpus has %d names, 500 are promised", len(names))
	}
	for _, s := range names {
		p, err := relpath.Parse(s)
		if err == nil {
			t.Errorf("Parse(%q) accepted", s)
		} else if k := fault.KindOf(err); k != fault.Invalid && k != fault.TooLong {
			t.Errorf("Parse(%q): kind %v", s, k)
		}
		if !p.IsZero() {
			t.Errorf("Parse(%q) = %q beside an error", s, p)
		}
	}
	t.Logf("%d hostile names refused", len(names))
}

func TestGoodNames(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ s, base, dir string }{
		{"a", "a", ""}, {"a/b", "b", "a"}, {"a/b/c.txt", "c.txt", "a/b"}, {"...", "...", ""}, {"-rf", "-rf", ""},
		{"..a", "..a", ""}, {"a..", "a..", ""}, {"%2e%2e/x", "x", "%2e%2e"}, {"a b/ü ☃", "ü ☃", "a b"}, {"CON", "CON", ""},
		{strings.Repeat("a", 255), strings.Repeat("a", 255), ""},
		{strings.Repeat("abc/", 255) + "abcd", "abcd", strings.TrimSuffix(strings.Repeat("abc/", 255), "/")},
	} {
		p, err := relpath.Parse(tc.s)
		if err != nil {
			t.Errorf("Parse(%q): %v", tc.s, err)
			continue
		}
		if p.String() != tc.s || p.Base() != tc.base || p.Dir().String() != tc.dir {
			t.Errorf("%q: base %q, dir %q", p, p.Base(), p.Dir())
		}
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	a, _ := relpath.Parse("a/b")
	for _, tc := range []struct {
		p    relpath.Path
		elem []string
		want string // "" = refused
	}{
		{a, []string{"c"}, "a/b/c"}, {a, []string{"c/d", "e"}, "a/b/c/d/e"}, {a, nil, "a/b"},
		{relpath.Path{}, []string{"x"}, "x"}, {relpath.Path{}, nil, ""},
		{a, []string{".."}, ""}, {a, []string{"../../.."}, ""}, {a, []string{""}, ""}, {a, []string{"/etc"}, ""},
		{a, []string{strings.Repeat("x", 256)}, ""},
	} {
		p, err := tc.p.Join(tc.elem...)
		if p.String() != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%q.Join(%q) = %q, %v", tc.p, tc.elem, p, err)
		}
	}
}

func TestZero(t *testing.T) {
	t.Parallel()
	var p relpath.Path
	if !p.IsZero() || p.String() != "" || p.Base() != "" || !p.Dir().IsZero() {
		t.Error("the zero Path names something")
	}
}

func FuzzParse(f *testing.F) {
	for i, s := range hostile() {
		if i%7 == 0 {
			f.Add(s)
		}
	}
	for _, s := range []string{"a", "a/b", "...", "a/..b/c", "ü/☃"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := relpath.Parse(s)
		if err != nil {
			var e *fault.Error
			if !errors.As(err, &e) {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		checkGrammar(t, s, p)
	})
}

func checkGrammar(t *testing.T, s string, p relpath.Path) {
	t.Helper()
	if p.String() != s || len(s) > relpath.MaxPath || !utf8.ValidString(s) || filepath.Clean(s) != s || !filepath.IsLocal(s) {
		t.Fatalf("Parse(%q) = %q", s, p)
	}
	if strings.ContainsAny(s, "\x00\n\r\x1b\\") {
		t.Fatalf("Parse(%q) accepted a control character or backslash", s)
	}
	if again, err := p.Dir().Join(p.Base()); err != nil || again != p {
		t.Fatalf("%q is not Dir + Base: %q, %v", p, again, err)
	}
	if base := string(os.PathSeparator) + "root"; !strings.HasPrefix(filepath.Join(base, p.String()), base+string(os.PathSeparator)) {
		t.Fatalf("%q leaves the root", p)
	}
}

func ExampleParse() {
	_, err := relpath.Parse("../etc/passwd")
	fmt.Println(err)
	// Output: parse name: invalid argument: element 1 is ".."
}
