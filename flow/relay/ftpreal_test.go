package relay

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
)

// ftpProgram is a client of the system, or the test is skipped, which .ci/test then tells.
func ftpProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("there is no %s: FTP is not tested with it; apt-get install %s", name, name)
	}
	return path
}

// succeeds runs a client and returns what it prints.
func succeeds(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v: %s", args, err, &said)
	}
	return out.String()
}

func randomFile(t *testing.T, path string, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return b
}

func has(t *testing.T, path string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, %v; want %d", filepath.Base(path), len(got), err, len(want))
	}
}

// realFTP is a server behind a relay, and where clients find it.
func realFTP(t *testing.T, kind string, at Place) (*two, *ftpserver.Server, string) {
	s := ftpserver.Start(t, kind)
	cfg := allowAll("ftp://" + s.Address)
	cfg.Policy[0].Listen = []string{"tcp://" + ftpEntryHost + ":*"}
	w := join(t, Config{}, cfg, true)
	w.add("tcp://"+ftpEntryHost+":0", "ftp://"+s.Address, func(r *Relay) { r.At = at })
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("entry or exit\n%s\nthe other\n%s", strings.Join(w.westAudit.lines(), "\n"), strings.Join(w.eastLog.lines(), "\n"))
		}
	})
	return w, s, w.bound(0)
}

// ftpModes are the four ways of a data connection, as flags of curl.
var ftpModes = map[string][]string{
	"EPSV": nil,
	"PASV": {"--disable-epsv", "--no-ftp-skip-pasv-ip"}, // it goes where the reply says
	"EPRT": {"--ftp-port", "-"},
	"PORT": {"--ftp-port", "-", "--disable-eprt"},
}

// TestRealFTPCurl: curl gets and puts whole files and rests of files, and lists, with each
// server, in each way, at either place; and asks for TLS, which it may go on without.
func TestRealFTPCurl(t *testing.T) {
	for _, kind := range ftpserver.Kinds {
		for _, at := range places {
			t.Run(kind+" "+at.String(), func(t *testing.T) {
				curl := ftpProgram(t, "curl")
				w, s, address := realFTP(t, kind, at)
				dir := t.TempDir()
				there := randomFile(t, filepath.Join(s.Data, "there"), 3<<20)
				here := randomFile(t, filepath.Join(dir, "here"), 2<<20+1)
				n := 0
				for mode, flags := range ftpModes {
					run := func(more ...string) string {
						n++
						args := append([]string{curl, "-sS", "-v", "--max-time", "30", "--user", s.User + ":" + s.Password}, flags...)
						return succeeds(t, append(args, more...)...)
					}
					url := "ftp://" + address + "/"
					got := filepath.Join(dir, "got"+mode)
					run("--ssl", "-o", got, url+"there")
					has(t, got, there)
					if err := os.Truncate(got, 1000001); err != nil {
						t.Fatal(err)
					}
					run("-C", "-", "-o", got, url+"there")
					has(t, got, there)

					name := "put" + mode
					run("-T", filepath.Join(dir, "here"), url+name)
					has(t, filepath.Join(s.Data, name), here)
					if err := os.Truncate(filepath.Join(s.Data, name), 1000001); err != nil {
						t.Fatal(err)
					}
					run("-C", "-", "-T", filepath.Join(dir, "here"), url+name)
					has(t, filepath.Join(s.Data, name), here)
					if list := run(url); !strings.Contains(list, name) || !strings.Contains(list, "there") {
						t.Errorf("%s: %q", mode, list)
					}
				}
				stats := w.west.Stats()[0]
				if stats.Opened != int64(2*n) || stats.Refused+stats.Failed != 0 {
					t.Errorf("%d times a control and a data connection: %+v", n, stats)
				}
			})
		}
	}
}

// TestRealFTPLftp: lftp mirrors trees both ways, several files at once, and goes on with a
// file whose rest is missing, actively and passively.
func TestRealFTPLftp(t *testing.T) {
	for _, kind := range ftpserver.Kinds {
		for _, active := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s active=%t", kind, active), func(t *testing.T) {
				lftp := ftpProgram(t, "lftp")
				_, s, address := realFTP(t, kind, places[len(kind)%2])
				dir := t.TempDir()
				tree := filepath.Join(dir, "tree")
				if err := os.MkdirAll(filepath.Join(tree, "sub"), 0o755); err != nil {
					t.Fatal(err)
				}
				files := map[string][]byte{}
				for i := range 40 {
					name := fmt.Sprintf("file%d", i)
					if i%2 == 0 {
						name = "sub/" + name
					}
					files[name] = randomFile(t, filepath.Join(tree, name), rand.IntN(200_000))
				}
				script := "set cmd:fail-exit yes; set net:max-retries 2; set net:timeout 20; set ftp:ssl-allow yes; "
				if active {
					script += "set ftp:passive-mode off; "
				}
				host, port, _ := strings.Cut(address, ":")
				run := func(commands string) {
					t.Helper()
					succeeds(t, lftp, "-c", script+fmt.Sprintf("open -u %s,%s -p %s %s; %s", s.User, s.Password, port, host, commands))
				}
				run("mirror -R -P 4 " + tree + " up")
				for name, want := range files {
					has(t, filepath.Join(s.Data, "up", name), want)
				}
				run("mirror -P 4 up " + filepath.Join(dir, "down"))
				for name, want := range files {
					has(t, filepath.Join(dir, "down", name), want)
				}
				large := randomFile(t, filepath.Join(s.Data, "large"), 3<<20)
				part := filepath.Join(dir, "large")
				if err := os.WriteFile(part, large[:1<<20], 0o644); err != nil {
					t.Fatal(err)
				}
				run("get -c large -o " + part)
				has(t, part, large)
			})
		}
	}
}
