package backup

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// memory is what a node remembers, in a test.
func memory(size int) map[string][]byte {
	r := rand.NewChaCha8([32]byte{1})
	all := map[string][]byte{}
	for _, name := range []string{"store.db", "folders.db", "audit/audit-00000001.jsonl", "audit/checkpoint", "tokens.json"} {
		b := make([]byte, size+len(all))
		_, _ = r.Read(b)
		all[name] = b
	}
	all["push.json"] = nil
	return all
}

func written(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, Manifest{Node: "hosta", Key: "sha256:1234", Version: "1", Begun: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	for name, text := range files {
		if err := w.Add(name, func(w io.Writer) error { _, err := w.Write(text); return err }); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func opened(b []byte) (*Archive, error) { return Open(bytes.NewReader(b), int64(len(b))) }

// there is what a directory has, but for what begins with a dot.
func there(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, fi.Mode())
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		all[filepath.ToSlash(name)] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func same(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if _, ok := b[name]; !ok || !bytes.Equal(a[name], b[name]) {
			return false
		}
	}
	return true
}

func TestRoundTrip(t *testing.T) {
	files := memory(1 << 16)
	a, err := opened(written(t, files))
	if err != nil {
		t.Fatal(err)
	}
	if a.Node != "hosta" || a.Key != "sha256:1234" || !a.Has("audit/checkpoint") || a.Has(Identity) || len(a.Files) != len(files) {
		t.Errorf("%+v", a.Manifest)
	}
	if err := a.Verify(); err != nil {
		t.Error(err)
	}
	state := filepath.Join(t.TempDir(), "to", "state") // is made
	if err := a.Restore(state); err != nil {
		t.Fatal(err)
	}
	if got := there(t, state); !same(got, files) {
		t.Error("other files are there")
	}
	if err := Interrupted(state); err != nil {
		t.Error(err)
	}
}

// TestRestoreReplacesNothing: what is there stays, and nothing comes to it.
func TestRestoreReplacesNothing(t *testing.T) {
	bare, keyed := memory(100), memory(100)
	keyed[Identity] = []byte("a key")
	for _, c := range []struct {
		there string
		files map[string][]byte
		ok    bool
	}{
		{Identity, bare, true}, {Identity, keyed, false}, {"store.db", bare, false}, {"notes.txt", bare, false}, {"store.db.log-0", bare, false},
	} {
		a, err := opened(written(t, c.files))
		if err != nil {
			t.Fatal(err)
		}
		state := t.TempDir()
		if err := os.WriteFile(filepath.Join(state, c.there), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		err = a.Restore(state)
		got := there(t, state)
		if string(got[c.there]) != "mine" {
			t.Errorf("%s is %q", c.there, got[c.there])
		}
		if !c.ok && (fault.KindOf(err) != fault.Exists || !strings.Contains(err.Error(), "nothing was changed") || len(got) != 1) {
			t.Errorf("beside %s: %v, %d files", c.there, err, len(got))
		}
		if c.ok && (err != nil || len(got) != len(c.files)+1) {
			t.Errorf("beside %s: %v, %d files", c.there, err, len(got))
		}
		if err := Interrupted(state); err != nil {
			t.Error(err)
		}
	}
}

// TestDamaged: of a backup with a wrong byte, or not all of one, either nothing is restored or what was backed up.
func TestDamaged(t *testing.T) {
	files := memory(40)
	good := written(t, files)
	refused, tried := 0, 0
	try := func(what string, b []byte) {
		tried++
		state := t.TempDir()
		a, err := opened(b)
		if err == nil {
			err = a.Restore(state)
		}
		got := there(t, state)
		switch {
		case err == nil && a.Node == "hosta" && same(got, files):
		case err == nil && !same(got, files):
			t.Errorf("%s: restored, with other content", what)
		case err != nil:
			refused++
			if len(got) > 0 || Interrupted(state) != nil {
				t.Errorf("%s: %v, and %d files are there", what, err, len(got))
			}
			if k := fault.KindOf(err); k != fault.Corrupt && k != fault.Unsupported {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	for i := rand.IntN(3); i < len(good); i += 3 {
		b := bytes.Clone(good)
		b[i] ^= 1 << (i % 8)
		try(fmt.Sprintf("byte %d", i), b)
	}
	for n := 0; n < len(good); n += 11 {
		try(fmt.Sprintf("%d bytes", n), good[:n])
	}
	if refused < tried/2 {
		t.Errorf("%d refused of %d", refused, tried)
	}
}

// TestForged: names that lead out of the state directory, or where none of a node's is, are refused.
func TestForged(t *testing.T) {
	for _, name := range []string{"../x", "/etc/x", "a/../../x", "a/b/c", ".restoring", ".x", "a/.x", "a//b", "", "a\\b", "a\x00b", "manifest.json", "CON/../x"} {
		if err := NewWriter(io.Discard, Manifest{}).Add(name, func(io.Writer) error { return nil }); err == nil {
			t.Errorf("%q was added", name)
		}
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, f := range []struct{ name, text string }{{name, "x"}, {"manifest.json", fmt.Sprintf(`{"format":1,"files":[{"name":%q,"size":1,"sha256":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}]}`, name)}} {
			w, err := z.Create(f.name)
			if err == nil {
				_, err = io.WriteString(w, f.text)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := opened(b.Bytes()); fault.KindOf(err) != fault.Corrupt {
			t.Errorf("%q: %v", name, err)
		}
	}
}

const (
	childEnv = "PANNIER_TEST_RESTORE" // the state directory that a child restores into
	zipEnv   = "PANNIER_TEST_BACKUP"
)

// TestKilled: a restore that is killed leaves nothing, or all, or a directory that no node starts with
// until it was done again.
func TestKilled(t *testing.T) {
	if state := os.Getenv(childEnv); state != "" {
		b, err := os.ReadFile(os.Getenv(zipEnv))
		if err != nil {
			t.Fatal(err)
		}
		a, err := opened(b)
		if err == nil {
			err = a.Restore(state)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	files := memory(1 << 20)
	for i := range 60 { // many, so that giving them their places takes a while
		files[fmt.Sprintf("audit/audit-%08d.jsonl", i+2)] = []byte(fmt.Sprint("record ", i))
	}
	b := written(t, files)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "b.zip"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	whole := time.Duration(0)
	seen := map[string]int{}
	for i := range 25 {
		state := filepath.Join(dir, fmt.Sprint(i))
		child := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		child.Env = append(os.Environ(), childEnv+"="+state, zipEnv+"="+filepath.Join(dir, "b.zip"))
		began := time.Now()
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			for range 10_000 { // until it has begun to write
				if _, err := os.Lstat(state); err == nil {
					break
				}
				time.Sleep(100 * time.Microsecond)
			}
			time.Sleep(time.Duration(rand.Int64N(int64(whole))))
			_ = child.Process.Kill()
		}
		err := child.Wait()
		if i == 0 {
			whole = time.Since(began)
			if err != nil {
				t.Fatal(err)
			}
		}
		a, err := opened(b)
		if err != nil {
			t.Fatal(err)
		}
		_, statErr := os.Lstat(state)
		switch {
		case statErr != nil:
			seen["nothing"]++
		case Interrupted(state) != nil:
			seen["interrupted"]++
		default:
			got := there(t, state)
			if len(got) == 0 {
				seen["nothing"]++
			} else if seen["all"]++; !same(got, files) {
				t.Errorf("%d files of %d, and a node would start", len(got), len(files))
			}
			if len(got) > 0 {
				continue
			}
		}
		if err := a.Restore(state); err != nil || Interrupted(state) != nil {
			t.Errorf("again: %v", err)
		}
		if !same(there(t, state), files) {
			t.Error("again: other files are there")
		}
	}
	if seen["interrupted"] == 0 {
		t.Errorf("none was interrupted: %v", seen)
	}
	t.Log(seen)
}

// TestInterrupted: a corrupt backup after one that was interrupted does not make a node start with half.
func TestInterrupted(t *testing.T) {
	files := memory(1000)
	good := written(t, files)
	state := t.TempDir()
	for _, name := range []string{pending + "/store.db", "folders.db", "left"} {
		path := filepath.Join(state, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := opened(good)
	if err != nil {
		t.Fatal(err)
	}
	a.Files[2].SHA256 = strings.Repeat("0", 64)
	if err := a.Restore(state); fault.KindOf(err) != fault.Corrupt || Interrupted(state) == nil {
		t.Errorf("%v, %v", err, Interrupted(state))
	}
	if a, err = opened(good); err != nil {
		t.Fatal(err)
	}
	if err := a.Restore(state); err != nil || Interrupted(state) != nil {
		t.Errorf("%v, %v", err, Interrupted(state))
	}
	if got := there(t, state); !same(got, files) {
		t.Errorf("%d files of %d: %v", len(got), len(files), reflect.ValueOf(got).MapKeys())
	}
}
