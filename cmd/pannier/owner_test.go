package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pannier/pannier/cmd/internal/command"
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

// TestRootHandsOver: what root makes in the state directory of another user is that user's,
// so that the node starts.
func TestRootHandsOver(t *testing.T) {
	state, config := others(t)
	does := func(args ...string) {
		t.Helper()
		var out messages
		if code := command.Run(t.Context(), rootCommand(), append(args, "--config", config), nil, &out, &out); code != 0 {
			t.Fatalf("%q ends with %d: %s", args, code, &out)
		}
		owners(t, state)
	}
	does("id")
	s, err := boltstore.Open(boltstore.Config{Path: node.StorePath(state)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	does("migrate")
}

// TestRootKeepsOthers: a file with a second name is not given away, whoever has linked it there,
// and nothing is followed out of the directory.
func TestRootKeepsOthers(t *testing.T) {
	state, _ := others(t)
	outside := filepath.Join(filepath.Dir(state), "outside")
	second := filepath.Join(filepath.Dir(state), "second")
	for _, err := range []error{
		os.WriteFile(outside, nil, 0o600), os.WriteFile(second, nil, 0o600), os.Link(second, filepath.Join(state, "linked")), os.Symlink(outside, filepath.Join(state, "symbolic")),
		node.HandOver(state),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{outside, second} {
		fi, err := os.Stat(path)
		if err != nil || fi.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s was given away: %v", path, err)
		}
	}
}

// TestServeSaysWhose: a node that may not read its key says which command helps.
func TestServeSaysWhose(t *testing.T) {
	state, config := others(t)
	if err := os.WriteFile(filepath.Join(state, "identity.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(filepath.Dir(state), "pannier")
	if out, err := exec.CommandContext(t.Context(), "cp", os.Args[0], program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program, "serve", "--config", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err == nil || !strings.Contains(out.String(), "As root: chown -R 65534: "+state) || !strings.Contains(out.String(), "identity.pem") {
		t.Errorf("%v, %s", err, &out)
	}
}
