package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pannier/pannier/spec/fault"
)

func key(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }

func TestParseKnownKeys(t *testing.T) {
	for _, c := range []struct {
		text string
		ok   bool
	}{
		{"", true},
		{"\n# nothing\n\n", true},
		{"tls://a:1 " + key("a"), true},
		{"  tls://a:1\t" + strings.ToUpper(key("a"))[:0] + key("A") + " \n", true},
		{"tls://a:1", false},
		{"tls://a:1 " + key("a") + " more", false},
		{"tls://a:1 sha256:abc", false},
		{strings.Repeat("#", maxKnownKeys+1), false},
	} {
		if _, err := parseKnownKeys(c.text); (err == nil) != c.ok {
			t.Errorf("%.100q: %v", c.text, err)
		}
	}
	k, err := parseKnownKeys("tls://a:1 " + key("A"))
	if err != nil || k.of("tls://a:1") != key("a") || k.of("tls://a:11") != "" {
		t.Error(k, err)
	}
}

func FuzzParseKnownKeys(f *testing.F) {
	for _, s := range []string{"", "#", "tls://a:1 " + key("0"), "a b", "a " + key("f") + "\n\n# x\nb " + key("1") + "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parseKnownKeys(text)
		if err != nil {
			return
		}
		again, err := parseKnownKeys(k.with("tls://new:1", key("c")).String())
		if err != nil || again.of("tls://new:1") != key("c") {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// TestRememberKey: the file is a map, whatever the order of changes, and
// comments stay.
func TestRememberKey(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		file := filepath.Join(dir, knownKeysFile)
		if err := os.WriteFile(file, []byte("# mine\n"), 0o600); err != nil {
			rt.Fatal(err)
		}
		want := map[string]string{}
		for range rapid.IntRange(1, 8).Draw(rt, "changes") {
			a := rapid.SampledFrom([]string{"tls://a:1", "tls://a:11", "tls://b:1"}).Draw(rt, "address")
			want[a] = key(rapid.SampledFrom([]string{"0", "1", "f"}).Draw(rt, "digit"))
			if err := rememberKey(dir, a, want[a]); err != nil {
				rt.Fatal(err)
			}
		}
		got, err := loadKnownKeys(dir)
		if err != nil || len(got.lines) != len(want)+1 || got.lines[0] != "# mine" {
			rt.Fatal(got.lines, err)
		}
		for a, k := range want {
			if got.of(a) != k {
				rt.Fatalf("%s has %s, not %s", a, got.of(a), k)
			}
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
			rt.Fatal(info.Mode(), err)
		}
		if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
			rt.Fatal(all, err)
		}
	})
}

// TestRememberKeyInDamaged: a file that is not understood is not replaced.
func TestRememberKeyInDamaged(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, knownKeysFile)
	if err := os.WriteFile(file, []byte("what is this"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := rememberKey(dir, "tls://a:1", key("0")); fault.KindOf(err) != fault.Invalid {
		t.Error(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "what is this" {
		t.Error(string(text), err)
	}
}
