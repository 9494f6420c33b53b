package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/flow/flowtest/s3server"
	"github.com/pannier/pannier/flow/flowtest/sshserver"
)

var verifyLarge = flag.Bool("large", false, "let \"plugin verify --large\" write more than 4 GiB, at each server")

// TestVerifyServers: the command at each real server. With -large it writes more than 4 GiB at each, as
// "--large" says; TestLarge of plugintest has that check with a smaller file.
func TestVerifyServers(t *testing.T) {
	verify := func(plugin, endpoint, credentials string, options ...string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(file, []byte(credentials), 0o600); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"plugin", "verify", plugin, "--endpoint", endpoint, "--credentials", file, "--level", "core"}, options...)
		want := " 0 failed, 1 skipped, 0 absent"
		if *verifyLarge {
			args, want = append(args, "--large"), " 0 failed, 0 skipped, 0 absent"
		}
		out, err := exec.CommandContext(t.Context(), "pannier", args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", plugin, err, out)
		}
	}
	for _, kind := range ftpserver.Kinds {
		f := ftpserver.Start(t, kind)
		verify("ftp", "ftp://"+f.Address, fmt.Sprintf(`{"user": %q, "password": %q}`, f.User, f.Password))
	}
	s := sshserver.Start(t)
	key, err := os.ReadFile(s.Key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"user": s.User, "secrets": map[string]string{"key": string(key)}})
	if err != nil {
		t.Fatal(err)
	}
	verify("sftp", "sftp://"+s.Address()+"/"+t.TempDir(), string(text), "--option", "hostkey="+s.HostKey)
	b := s3server.Start(t, false)
	verify("s3", b.URL, fmt.Sprintf(`{"user": %q, "password": %q}`, s3server.AccessKey, s3server.SecretKey))
}

// TestVerifyFTP: what "plugin verify" does by itself to the connections of a plugin, and with two
// servers.
func TestVerifyFTP(t *testing.T) {
	f, other := ftpserver.Start(t, "vsftpd", ftpserver.FXP), ftpserver.Start(t, "proftpd", ftpserver.FXP)
	files := map[*ftpserver.Server]string{}
	for _, s := range []*ftpserver.Server{f, other} {
		files[s] = filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(files[s], fmt.Appendf(nil, `{"user": %q, "password": %q}`, s.User, s.Password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "pannier", "plugin", "verify", "ftp", "--endpoint", "ftp://"+f.Address, "--credentials", files[f],
		"--other", "ftp://"+other.Address, "--other-credentials", files[other], "--option", "fxp=any", "--level", "server", "--level", "fxp").CombinedOutput()
	want := "ftp 1: 9 passed, 0 failed, 0 skipped, 0 absent"
	if runtime.GOOS != "linux" {
		want = "ftp 1: 7 passed, 0 failed, 2 skipped, 0 absent"
	}
	if err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestVerifySample: a sample that would not fit into memory is refused, and says so.
func TestVerifySample(t *testing.T) {
	at := t.TempDir()
	f, err := os.Create(filepath.Join(at, "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(mostSample + 1); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "pannier", "plugin", "verify", "dir", "--endpoint", "dir://"+at, "--sample", "/big", "--level", "core").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/big has more than 64 MiB") || !strings.Contains(string(out), "smaller file") {
		t.Errorf("%v\n%s", err, out)
	}
}
