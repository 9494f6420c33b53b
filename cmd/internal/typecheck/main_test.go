package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheck: what only another system's compiler would see is found, and what is right on it is not.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":     "module " + ours + "\ngo 1.26\nrequire example.com/dep v0.0.0\nreplace example.com/dep => ./dep\n",
		"dep/go.mod": "module example.com/dep\ngo 1.26\n", "dep/d.go": "package dep\n", "dep/d_plan9.go": "package dep\n\nvar _ int = \"\"\n",
		"uses.go": "package a\n\nimport _ \"example.com/dep\"\n", "a_plan9.go": "package a\n\nfunc f() int { return 3 }\n",
		"a.go":         "package a\n\nfunc F() int { return f() }\n",
		"a_linux.go":   "package a\n\nfunc f() int { return 1 }\n",
		"a_darwin.go":  "package a\n\nfunc f() string { return \"\" }\n",
		"a_windows.go": "package a\n\nfunc f() int { return 2 }\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 { // fewer packages are none of this module's
		p := filepath.Join(dir, string(rune('a'+i)))
		if err := os.Mkdir(p, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(p, "p.go"), []byte("package p\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for system, want := range map[string]string{"linux": "", "windows": "", "darwin": "string", "freebsd": "undefined: f", "plan9": "untyped string"} {
		errs, err := check(system)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(errs, "; "); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q in it", system, got, want)
		}
	}
}
