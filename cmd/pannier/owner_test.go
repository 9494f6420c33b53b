package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/node"
)

const nobody = 65534

// others is a state directory that is the user nobody's, and its configuration.
func others(t *testing.T) (state, config string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: nothing can be of another user")
	}
	dir, err := os.MkdirTemp("", "own") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	state, config = filepath.Join(dir, "state"), filepath.Join(dir, "p.toml")
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.Mkdir(state, 0o700), os.Chown(state, nobody, nobody),
		os.WriteFile(config, []byte("[node]\nname = \"n\"\nstate = \""+state+"\"\n"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return state, config
}

// owners wants each file of a directory to be the user nobody's.
func owners(t *testing.T, state string) {
	t.Helper()
	err := filepath.WalkDir(state, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil && fi.Sys().(*syscall.Stat_t).Uid != nobody {
			t.Errorf("%s is of user %d", path, fi.Sys().(*syscall.Stat_t).Uid)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRootWorksAsOwner: what root makes in the state directory of another user is that user's,
// so that the node starts.
func TestRootWorksAsOwner(t *testing.T) {
	state, config := others(t)
	does := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "pannier", append(args, "--config", config)...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
		owners(t, state)
	}
	does("id")
	older(t, node.StorePath(state))
	does("migrate", "--dry-run")
	does("migrate")
}

// older makes a store of an earlier format, which is the user nobody's.
func older(t *testing.T, path string) {
	t.Helper()
	s, err := boltstore.Open(boltstore.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("format"), binary.BigEndian.AppendUint32(nil, 2))
	})
	if err := errors.Join(err, db.Close(), os.Chown(path, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(path + ".log-*")
	for _, log := range logs {
		err = errors.Join(err, os.Remove(log))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestWhoOwns: a directory is its owner's, one that is not there is whose it would be made in, and a link
// that somebody has made leads to nothing but their own.
func TestWhoOwns(t *testing.T) {
	state, _ := others(t) // in a directory of root's
	dir := filepath.Dir(state)
	theirs, roots := filepath.Join(dir, "theirs"), filepath.Join(dir, "roots")
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(theirs, 0o755), os.Chown(theirs, nobody, 0), os.Mkdir(roots, 0o755), os.Mkdir(filepath.Join(roots, "state"), 0o755), os.Mkdir(filepath.Join(theirs, "own"), 0o700), os.Mkdir(filepath.Join(theirs, "left"), 0o700),
		os.Chown(filepath.Join(theirs, "own"), nobody, 0), os.Symlink(state, filepath.Join(roots, "link")), os.Symlink("loop", filepath.Join(roots, "loop")))
	for name, to := range map[string]string{"trap": roots, "far": filepath.Join(roots, "not", "there"), "up": "../roots", "mine": state, "near": "own/x"} {
		must(os.Symlink(to, filepath.Join(theirs, name)), os.Lchown(filepath.Join(theirs, name), nobody, nobody))
	}
	for path, want := range map[string]int{
		state: nobody, roots: 0, roots + "/state": 0, roots + "/link": nobody, dir + "/no/such": 0, theirs: nobody, theirs + "/new/state": nobody, theirs + "/own": nobody,
		theirs + "/mine": nobody, theirs + "/near": nobody, theirs + "/left": 0, roots + "/../theirs/own/": nobody,
		theirs + "/trap": -1, theirs + "/trap/state": -1, theirs + "/far": -1, theirs + "/up": -1, roots + "/loop": -1,
	} {
		uid, _, err := whoOwns(path)
		if err != nil {
			uid = -1
		}
		if uid != want {
			t.Errorf("%s is of user %d, want %d (%v)", path, uid, want, err)
		}
	}
}

// TestRootFollowsNoTrap: a link that its user has put in the place of the state directory has root make
// nothing elsewhere, and what is made for a user has no group of root's.
func TestRootFollowsNoTrap(t *testing.T) {
	state, config := others(t)
	id := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), "pannier", "id", "--config", config).CombinedOutput()
		return string(out), err
	}
	if err := os.Chown(state, nobody, 0); err != nil {
		t.Fatal(err)
	}
	if out, err := id(); err != nil {
		t.Fatal(err, out)
	}
	fi, err := os.Stat(filepath.Join(state, "identity.pem"))
	if err != nil || fi.Sys().(*syscall.Stat_t).Gid == 0 {
		t.Errorf("%v, of group root: %v", err, err == nil)
	}
	trap := filepath.Join(filepath.Dir(state), "trap")
	if err := errors.Join(os.Mkdir(trap, 0o755), os.RemoveAll(state), os.Symlink(trap, state), os.Lchown(state, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	out, err := id()
	if err == nil || !strings.Contains(out, "is a link that user 65534 has made, and leads to "+trap) || !strings.Contains(out, "Write the directory itself") {
		t.Errorf("%v: %s", err, out)
	}
	if made, err := os.ReadDir(trap); err != nil || len(made) > 0 {
		t.Errorf("made there: %v, %v", made, err)
	}
}

// TestWhoseIsSaid: where the node may not read its key, because somebody else has made it, the
// command that helps is said.
func TestWhoseIsSaid(t *testing.T) {
	state, config := others(t)
	if err := os.WriteFile(filepath.Join(state, "identity.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(filepath.Dir(state), "pannier")
	if out, err := exec.CommandContext(t.Context(), "cp", os.Args[0], program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range []struct {
		verb string
		user uint32
	}{{"serve", nobody}, {"id", nobody}, {"id", 0}} {
		cmd := exec.CommandContext(t.Context(), program, c.verb, "--config", config)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.user, Gid: c.user}}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err == nil || !strings.Contains(out.String(), "As root: find "+state+" -xdev ! -user 65534 ") || !strings.Contains(out.String(), "identity.pem") {
			t.Errorf("%s as user %d: %v, %s", c.verb, c.user, err, &out)
		}
	}
}

// serviceOf puts in the place of systemctl, for what this test starts, a program that says that the service is that user's and
// has those groups.
func serviceOf(t *testing.T, name, groups string) {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\n[ \"$1\" = show ] && [ \"$3\" = pannier ] && printf 'User=%s\\nGroup=\\nSupplementaryGroups=%s\\n' '" + name + "' '" + groups + "'\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// TestGroupsOf: a user works in its own groups, and in those that its service has beside; in none of another's.
func TestGroupsOf(t *testing.T) {
	const other, extra = 65432, 65433
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	own, err := me.GroupIds()
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(me.Uid)
	want := func(has bool, what string) {
		t.Helper()
		got := groupsOf(uid, other)
		if got[0] != other || slices.Contains(got, extra) != has {
			t.Errorf("%s: %v", what, got)
		}
		for i, id := range got {
			if slices.Contains(got[:i], id) {
				t.Errorf("%s: %d twice: %v", what, id, got)
			}
		}
		for _, name := range own {
			if id, _ := strconv.Atoi(name); !slices.Contains(got, id) {
				t.Errorf("%s: without the user's %d: %v", what, id, got)
			}
		}
	}
	t.Setenv("PATH", t.TempDir())
	want(false, "no systemd")
	serviceOf(t, me.Username, "65433 65432")
	want(true, "its service")
	serviceOf(t, me.Uid, "65433")
	want(true, "its service, by number")
	serviceOf(t, "somebody-else", "65433")
	want(false, "another's service")
	serviceOf(t, "", "65433")
	want(false, "root's service")
	if got := groupsOf(other, extra); !slices.Equal(got, []int{extra}) {
		t.Errorf("a user without a name: %v", got)
	}
	if g, err := user.LookupGroupId("1"); err == nil {
		if serviceOf(t, me.Username, g.Name+" nosuchgroup"); !slices.Contains(groupsOf(uid, other), 1) {
			t.Errorf("group %s is not found", g.Name)
		}
	}
}

// TestDoctorAsOwner: root sees what the node's user may not do.
func TestDoctorAsOwner(t *testing.T) {
	state, config := others(t)
	root := filepath.Join(filepath.Dir(state), "root")
	text := "[node]\nname = \"n\"\nstate = \"" + state + "\"\n" + strings.ReplaceAll(folderRule, "%ROOT%", root) +
		"[[folder]]\nname = \"box\"\nrule = \"out\"\npartner = \"n\"\ndir = \"box\"\nafter = \"move\"\nto = \"sent\"\n"
	for _, err := range []error{
		os.MkdirAll(filepath.Join(root, "box"), 0o755), os.Mkdir(filepath.Join(root, "sent"), 0o755), os.Chown(filepath.Join(root, "sent"), nobody, nobody),
		os.Chmod(filepath.Join(root, "box"), 0o777|os.ModeSticky), os.WriteFile(config, []byte(text), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	says := func() string {
		out, _ := exec.CommandContext(t.Context(), "pannier", "doctor", "--all", "--config", config).CombinedOutput()
		return string(out)
	}
	if out := says(); !strings.Contains(out, "fail     folder box: files of others stay in "+root+"/box: it is sticky") || !strings.Contains(out, "user nobody looks, whose the state directory is") {
		t.Errorf("doctor says\n%s", out)
	}
	if err := os.Chmod(filepath.Join(root, "box"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out := says(); !strings.Contains(out, "fail     folder box: what was sent cannot be taken away from "+root+"/box: permission denied") {
		t.Errorf("doctor says\n%s", out)
	}
	if err := os.Chown(filepath.Join(root, "box"), nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if out := says(); !strings.Contains(out, "ok       folder box: ") {
		t.Errorf("doctor says\n%s", out)
	}
}

// TestCheckAsOwner: config check, run as root, warns of the files that the node's user cannot read, wherever they are named.
func TestCheckAsOwner(t *testing.T) {
	state, config := others(t)
	dir := filepath.Join(filepath.Dir(state), "secrets")
	text := "[node]\nname = \"n\"\nstate = \"" + state + "\"\n[push]\nurl = \"https://push.example\"\nsecret = \"file:DIR/push\"\n" + strings.ReplaceAll(folderRule, "%ROOT%", "/usr") + `
[[bridge]]
name = "box"
plugin = "sftp"
endpoint = "sftp://box.example"
credentials = "file:DIR/credentials"
options = ["known-hosts=DIR/known"]
[[listener]]
plugin = "ftp"
listen = "127.0.0.1:2121"
options = ["cert=DIR/cert", "key=DIR/key"]
users = [ { name = "acme", password = "file:DIR/acme", partner = "box", rule = "out" } ]
`
	files := map[string]string{"push": "push", "credentials": "bridge box", "known": "bridge box", "cert": "listener 127.0.0.1:2121", "key": "listener 127.0.0.1:2121", "acme": "listener 127.0.0.1:2121"}
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(config, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o644)); err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	says := func(missing bool) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "pannier", "config", "check", "--config", config).CombinedOutput()
		if err != nil || !strings.Contains(string(out), ": node n, ") {
			t.Errorf("%v: %s", err, out)
		}
		for name, whose := range files {
			said := "warning: " + whose + ": the node's user, whose " + state + " is, cannot read " + filepath.Join(dir, name) + ": "
			if strings.Contains(string(out), said) != missing {
				t.Errorf("of %s it says\n%s", name, out)
			}
		}
	}
	says(true)
	for name := range files {
		if err := os.Chown(filepath.Join(dir, name), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	says(false)
	const extra = 65433 // of the service alone
	for name := range files {
		if err := errors.Join(os.Chown(filepath.Join(dir, name), 0, extra), os.Chmod(filepath.Join(dir, name), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	says(true)
	serviceOf(t, "nobody", "65433")
	says(false)
	if err := os.Chmod(dir, 0o700); err != nil { // root's
		t.Fatal(err)
	}
	says(true)
}
