package plugins_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// staging is a directory, and what StageFile has begun there.
func staging(t *testing.T) (at string, begin func(name string, w plugins.WriteRequest) (plugins.Staged, error)) {
	at = t.TempDir()
	root, err := os.OpenRoot(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return at, func(name string, w plugins.WriteRequest) (plugins.Staged, error) {
		return plugins.StageFile(root, name, w)
	}
}

// TestStageFile: nobody sees a file before Commit, which replaces an older one, and says the same
// again; of one that is given up nothing stays.
func TestStageFile(t *testing.T) {
	at, begin := staging(t)
	path := filepath.Join(at, "x")
	if err := os.WriteFile(path, []byte("older"), 0o600); err != nil {
		t.Fatal(err)
	}
	modified := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	st, err := begin("/x", plugins.WriteRequest{Size: 5, Modified: modified})
	if err != nil {
		t.Fatal(err)
	}
	_, err = st.Write([]byte("newer"))
	if got, _ := os.ReadFile(path); err != nil || string(got) != "older" {
		t.Errorf("before Commit: %q, %v", got, err)
	}
	for range 2 {
		a, err := st.Commit(t.Context())
		if err != nil || a.Size != 5 || a.Name != "/x" || !a.Modified.Equal(modified) {
			t.Errorf("%+v, %v", a, err)
		}
	}
	fi, err := os.Stat(path)
	if got, _ := os.ReadFile(path); err != nil || string(got) != "newer" || !fi.ModTime().Equal(modified) {
		t.Errorf("after Commit: %q, %v, %v", got, fi, err)
	}
	if st, err = begin("/y", plugins.WriteRequest{Size: -1}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Abort(t.Context(), false); err != nil {
		t.Error(err)
	}
	if all, _ := os.ReadDir(at); len(all) != 1 {
		t.Errorf("left: %v", all)
	}
}

// TestStageFileGoesOn: after an Abort that kept it, and after a crash behind a checkpoint, of which
// nothing is kept that came later; but not with what another file has left, or with more than there is.
func TestStageFileGoesOn(t *testing.T) {
	at, begin := staging(t)
	st, err := begin("/x", plugins.WriteRequest{Size: 9})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = st.Write([]byte("abc"))
	crash, err := st.(plugins.Checkpointer).Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = st.Write([]byte("lost"))
	if st, err = begin("/x", plugins.WriteRequest{Size: 9, Resume: crash}); err != nil || st.Offset() != 3 {
		t.Fatalf("after a crash: %v, %v", st, err)
	}
	_, _ = st.Write([]byte("def"))
	kept, err := st.Abort(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		name, resume string
		kind         fault.Kind
	}{
		{"/d/x", string(kept), fault.Invalid}, {"/x", "x\n1", fault.Invalid}, {"/x", "../.pannier-x\n1", fault.Invalid}, {"/x", ".pannier-x\n1", fault.NotFound},
		{"/x", ".pannier-x\n-1", fault.Invalid}, {"/x", "", fault.Invalid}, {"/x", string(kept) + "0", fault.Stale},
	} {
		if _, err := begin(bad.name, plugins.WriteRequest{Resume: []byte(bad.resume)}); fault.KindOf(err) != bad.kind {
			t.Errorf("%s, %q: %v", bad.name, bad.resume, err)
		}
	}
	if st, err = begin("/x", plugins.WriteRequest{Size: 9, Resume: kept}); err != nil || st.Offset() != 6 {
		t.Fatalf("after Abort: %v, %v", st, err)
	}
	_, _ = st.Write([]byte("ghi"))
	if _, err := st.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(filepath.Join(at, "x")); string(got) != "abcdefghi" {
		t.Errorf("%q", got)
	}
}

// TestStageFileAgain: what an earlier Write of the same name and ID has left goes; and links lead
// nowhere else.
func TestStageFileAgain(t *testing.T) {
	at, begin := staging(t)
	for again := range 2 {
		st, err := begin("/x", plugins.WriteRequest{ID: "one", Again: again > 0})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = st.Write([]byte("begun"))
		all, _ := os.ReadDir(at)
		if len(all) != 1 || !plugins.IsStaged(all[0].Name()) {
			t.Errorf("there is %v", all)
		}
	}
	if err := os.Symlink(t.TempDir(), filepath.Join(at, "out")); err != nil {
		t.Fatal(err)
	}
	if _, err := begin("/out/x", plugins.WriteRequest{}); err == nil {
		t.Error("a link leads out")
	}
}
