package node_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pannier/pannier/engine/node"
)

// TestReclaim: the command gives its owner what is of others in a state directory, whatever that is called, and
// nothing that is elsewhere, which links and second names lead to.
func TestReclaim(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: nothing can be of another user")
	}
	const nobody = 65534
	dir := t.TempDir()
	state := filepath.Join(dir, "it's a $(touch trap) state; dir")
	elsewhere := filepath.Join(dir, "elsewhere")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(state, name) }
	must(os.MkdirAll(in("sub"), 0o755))
	must(os.Mkdir(elsewhere, 0o755))
	for _, path := range []string{in("identity.pem"), in("sub/a b\n*"), in("-R"), elsewhere + "/linked", elsewhere + "/named"} {
		must(os.WriteFile(path, nil, 0o600))
	}
	must(os.Symlink(elsewhere, in("link")))
	must(os.Symlink(elsewhere+"/linked", in("file")))
	must(os.Link(elsewhere+"/named", in("named")))
	must(os.Chown(state, nobody, nobody))
	through := filepath.Join(dir, "link")
	must(os.Symlink(state, through))
	command, err := node.Reclaim(through)
	must(err)
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", command)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v, %s", command, err, out)
	}
	for path, want := range map[string]uint32{
		state: nobody, in("sub"): nobody, in("identity.pem"): nobody, in("sub/a b\n*"): nobody, in("-R"): nobody,
		elsewhere: 0, elsewhere + "/linked": 0, elsewhere + "/named": 0, in("named"): 0,
	} {
		fi, err := os.Lstat(path)
		must(err)
		if uid := fi.Sys().(*syscall.Stat_t).Uid; uid != want {
			t.Errorf("%s is of user %d, want %d", path, uid, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "trap")); err == nil {
		t.Error("what a name has in it was run")
	}
}
