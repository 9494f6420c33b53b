package sideeffect

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/spec/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// content is n bytes that tell where they are.
func content(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// newRoot is an empty directory as a root, and its path.
func newRoot(t testing.TB) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir
}

func write(t testing.TB, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantFiles compares the directory: name, content, name, content. "*" at the
// end of a name matches any rest; content nil is not compared.
func wantFiles(t testing.TB, dir string, want ...any) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) != len(want)/2 {
		t.Fatalf("directory has %q, want %d files", names, len(want)/2)
	}
	for i := 0; i < len(want); i += 2 {
		wantFile(t, dir, names, want[i].(string), want[i+1])
	}
}

func wantFile(t testing.TB, dir string, names []string, pattern string, content any) {
	t.Helper()
	for _, n := range names {
		prefix, any := strings.CutSuffix(pattern, "*")
		if n != pattern && !(any && strings.HasPrefix(n, prefix)) {
			continue
		}
		if b, _ := os.ReadFile(filepath.Join(dir, n)); content != nil && !bytes.Equal(b, content.([]byte)) {
			t.Fatalf("%s has %s, want %s", n, short(b), short(content.([]byte)))
		}
		return
	}
	t.Fatalf("no %s among %q", pattern, names)
}

func short(b []byte) string { return fmt.Sprintf("%d bytes %.8x", len(b), b) }

func wantKind(t testing.TB, err error, k fault.Kind) {
	t.Helper()
	var e *fault.Error
	if !errors.As(err, &e) || e.Kind != k {
		t.Fatalf("error %v, want kind %v", err, k)
	}
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
