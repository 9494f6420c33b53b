package packaging

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestImage: the container file makes an image, without a daemon or a registry, in which a node
// runs as the user it names, and is healthy by the command it names.
func TestImage(t *testing.T) {
	needs(t, "buildah")
	if os.Getuid() != 0 {
		t.Skip("not root")
	}
	src, dir := filepath.Join(filepath.Dir(filepath.Dir(builtDeb(t))), "src"), t.TempDir()
	buildah := func(args ...string) []string {
		return append([]string{"buildah", "--root", filepath.Join(dir, "store"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}, args...)
	}
	do := func(args ...string) string {
		t.Helper()
		argv := buildah(args...)
		lines := strings.Split(strings.TrimSpace(run(t, ".", argv[0], argv[1:]...)), "\n")
		return lines[len(lines)-1]
	}
	t.Setenv("BUILDAH_ISOLATION", "chroot") // which needs no other program
	t.Setenv("TMPDIR", dir)

	// In the place of the image with Go, which would have to be fetched: what this machine has.
	base := do("from", "scratch")
	do("copy", "-q", base, likeHost(t), "/")
	goroot := strings.TrimSpace(run(t, ".", "go", "env", "GOROOT"))
	do("config", "--env", "PATH="+goroot+"/bin:/usr/bin", "--env", "HOME=/tmp", "--env", "GOPROXY=off", "--env", "GOMODCACHE=/mod", "--env", "GOCACHE=/cache", base)
	do("commit", "-q", base, "docker.io/library/golang:1.26")
	do("build", "--pull=never", "--format", "docker", "-v", "/usr:/usr:ro", "-v", goroot+":"+goroot+":ro",
		"-v", strings.TrimSpace(run(t, ".", "go", "env", "GOMODCACHE"))+":/mod", "-v", strings.TrimSpace(run(t, ".", "go", "env", "GOCACHE"))+":/cache",
		"-f", filepath.Join(src, "cmd/pannier/packaging/Containerfile"), "-t", "pannier", src)

	argv := buildah("inspect", "--type", "image", "pannier")
	var image struct {
		Docker struct {
			Config struct {
				User, WorkingDir string
				Entrypoint, Cmd  []string
				Volumes          map[string]any
				Healthcheck      struct{ Test []string }
			} `json:"config"`
		}
	}
	if err := json.Unmarshal([]byte(run(t, ".", argv[0], argv[1:]...)), &image); err != nil {
		t.Fatal(err)
	}
	c := image.Docker.Config
	if _, is := c.Volumes["/var/lib/pannier"]; !is || c.User != "65532:65532" || len(c.Healthcheck.Test) < 2 || len(c.Entrypoint) != 1 {
		t.Fatalf("%+v", c)
	}

	text, err := os.ReadFile("pannier.toml")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "pannier.toml")
	if err := os.WriteFile(config, bytes.Replace(text, []byte("tls://0.0.0.0:6610"), []byte("unix:///tmp/peer"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	in := buildah("run", "-v", config+":/etc/pannier/pannier.toml:ro", do("from", "--pull=never", "pannier"))
	var said bytes.Buffer
	node := exec.Command(in[0], slices.Concat(in[1:], c.Entrypoint, c.Cmd)...)
	node.Stdout, node.Stderr = &said, &said
	node.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-node.Process.Pid, syscall.SIGKILL)
		_ = node.Wait()
		if t.Failed() {
			t.Logf("the node says\n%s", &said)
		}
	}()
	await(t, "healthy node", func() bool {
		return exec.Command(in[0], slices.Concat(in[1:], c.Healthcheck.Test[1:])...).Run() == nil
	})
	if out := run(t, ".", in[0], slices.Concat(in[1:], c.Entrypoint, []string{"status"})...); !strings.Contains(out, "state\trunning") {
		t.Errorf("%s", out)
	}
}

// likeHost is a directory with the links that this machine has from / into /usr, and the
// certificates that the container file wants.
func likeHost(t *testing.T) string {
	dir := t.TempDir()
	for _, name := range []string{"bin", "lib", "lib64"} {
		if to, err := os.Readlink("/" + name); err == nil {
			if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, d := range []string{"tmp", "usr", "etc/ssl/certs"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/ssl/certs/ca-certificates.crt"), []byte("# none\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
