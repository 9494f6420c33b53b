package sftpd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// program is one of the system's, or the test is skipped.
func program(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("there is no %s: the SFTP server is not tested with it; .ci/test installs it as root on Debian", name)
	}
	return p
}

// partner is somebody with OpenSSH and a key that the node knows.
type partner struct {
	t    testing.TB
	r    *running
	home string
	args []string
}

func newPartner(t testing.TB, n *node, r *running) *partner {
	t.Helper()
	p := &partner{t: t, r: r, home: t.TempDir()}
	_, line, text := newKey(t)
	n.set(func(h *hooks) { h.key = line })
	p.file("id", string(text))
	host, err := hostKey(r.hostkey)
	if err != nil {
		t.Fatal(err)
	}
	name, port, _ := strings.Cut(r.address, ":")
	p.file("known", fmt.Sprintf("[%s]:%s %s", name, port, ssh.MarshalAuthorizedKey(host.PublicKey())))
	p.args = []string{"-F", "none", "-P", port, "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" + filepath.Join(p.home, "known"), "-o", "IdentitiesOnly=yes", "-i", filepath.Join(p.home, "id"), "-o", "BatchMode=yes"}
	return p
}

func (p *partner) file(name, text string) string {
	p.t.Helper()
	at := filepath.Join(p.home, name)
	if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return at
}

// run is a program of somebody at home: what it prints, and whether it has ended well. It has a
// minute, and its children do not hold it up then.
func (p *partner) run(commands, name string, args ...string) (string, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, program(p.t, name), args...)
	c.Stdin, c.Dir, c.Env, c.WaitDelay = strings.NewReader(commands), p.home, append(os.Environ(), "HOME="+p.home), 10*time.Second
	out, err := c.CombinedOutput()
	if ctx.Err() != nil {
		p.t.Errorf("%q does not end: %s", c.Args, out)
	}
	return string(out), err
}

// sftp runs commands.
func (p *partner) sftp(commands string, more ...string) (string, error) {
	p.t.Helper()
	return p.run(commands, "sftp", append(append([]string{"-b", "-"}, append(p.args, more...)...), user+"@127.0.0.1")...)
}

func (p *partner) must(commands string, more ...string) string {
	p.t.Helper()
	out, err := p.sftp(commands, more...)
	if err != nil {
		p.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// refusing is a commit that an application says no to.
func refusing(context.Context, plugins.Staged) (plugins.Attr, error) {
	return plugins.Attr{}, fault.New("task check", fault.Refused, "the invoice has no number")
}

// started waits until the server has its host key.
func started(t testing.TB, n *node, options ...string) *partner {
	t.Helper()
	r := serve(t, n, options...)
	until(t, "a host key", func() bool { _, err := os.Stat(r.hostkey); return err == nil })
	return newPartner(t, n, r)
}

func TestOpenSSH(t *testing.T) {
	n := newNode(t)
	p := started(t, n)
	big := content(5<<20 + 17)
	p.file("big", string(big))
	p.file("empty", "")
	out := p.must("put big\nput -p big copy\nput -f big synced\nput empty\nmkdir dir\ncd dir\nput empty in\nls -l ..\nls -1\npwd\nget ../big back\nget -p ../big back2\nget ../empty back3\nrename in out\nrm out\ncd ..\nrmdir dir\n")
	n.has(t, "big", big)
	n.has(t, "copy", big)
	n.has(t, "synced", big)
	n.has(t, "empty", nil)
	for _, name := range []string{"back", "back2"} {
		if got, err := os.ReadFile(filepath.Join(p.home, name)); err != nil || string(got) != string(big) {
			t.Errorf("%s has %d bytes, %v", name, len(got), err)
		}
	}
	if !strings.Contains(out, fmt.Sprint(len(big))) || !strings.Contains(out, "/dir") {
		t.Errorf("ls or pwd: %s", out)
	}
	if got := n.files(t); len(got) != 4 {
		t.Errorf("there is %q", got)
	}
	if out, err := p.run("", "scp", append(p.args, "-s", filepath.Join(p.home, "big"), user+"@127.0.0.1:/scp")...); err != nil {
		t.Errorf("scp: %v %s", err, out)
	}
	n.has(t, "scp", big)
	_ = os.Remove(filepath.Join(n.root, "scp"))
	for _, bad := range []string{"get nothing", "put big dir/x", "rmdir big", "rm .", "ln -s big link", "put -a empty big", "chdir big"} {
		if out, err := p.sftp(bad); err == nil {
			t.Errorf("%s succeeds: %s", bad, out)
		}
	}
	n.has(t, "big", big)
}

func TestOpenSSHFails(t *testing.T) {
	n := newNode(t)
	p := started(t, n)
	p.file("f", "content")
	good := n.now().key
	n.set(func(h *hooks) { _, h.key, _ = newKey(t) })
	if out, err := p.sftp("ls"); err == nil || !strings.Contains(out, "Permission denied") {
		t.Errorf("a wrong key: %v %s", err, out)
	}
	n.set(func(h *hooks) { h.key = good })
	name, port, _ := strings.Cut(p.r.address, ":")
	_, other, _ := newKey(t)
	known := p.file("known", fmt.Sprintf("[%s]:%s %s\n", name, port, other))
	if out, err := p.sftp("ls"); err == nil || !strings.Contains(out, "Host key verification failed") {
		t.Errorf("a wrong host: %v %s", err, out)
	}
	host, _ := hostKey(p.r.hostkey)
	_ = os.WriteFile(known, fmt.Appendf(nil, "[%s]:%s %s", name, port, ssh.MarshalAuthorizedKey(host.PublicKey())), 0o600)
	n.set(func(h *hooks) { h.commit = refusing })
	if out, err := p.sftp("put f"); err == nil || !strings.Contains(strings.ToLower(out), "failure") {
		t.Errorf("a commit that fails: %v %s", err, out)
	}
	if out, err := p.run("", "scp", append(p.args, "-s", filepath.Join(p.home, "f"), user+"@127.0.0.1:/f")...); err == nil {
		t.Errorf("a commit that fails, of scp: %s", out)
	}
	if got := n.files(t); len(got) != 0 {
		t.Errorf("there is %q", got)
	}
}

// TestNoShell: SSH has nothing but SFTP.
func TestNoShell(t *testing.T) {
	n := newNode(t)
	p := started(t, n)
	args := append([]string{"-p", p.args[3]}, append(p.args[:2:2], p.args[4:]...)...)
	for _, more := range [][]string{{"-T", "true"}, {"-tt", ""}, {"-s", "netconf"}} {
		if out, err := p.run("", "ssh", append(append(args, more[0], user+"@127.0.0.1"), more[1:]...)...); err == nil {
			t.Errorf("%q succeeds: %s", more, out)
		}
	}
}

func TestLftp(t *testing.T) {
	n := newNode(t)
	p := started(t, n)
	big := content(3<<20 + 1)
	p.file("big", string(big))
	settings := fmt.Sprintf("set sftp:connect-program \"ssh -a -x -F none -o StrictHostKeyChecking=yes -o UserKnownHostsFile=%s -o IdentitiesOnly=yes -o BatchMode=yes -i %s\"; set net:max-retries 1; set cmd:fail-exit yes; ",
		filepath.Join(p.home, "known"), filepath.Join(p.home, "id"))
	run := func(commands string) (string, error) {
		return p.run("", "lftp", "-c", settings+"open -u "+user+", sftp://"+p.r.address+"; "+commands)
	}
	out, err := run("put big; mkdir d; put big -o d/x; mv d/x d/y; cls -l; get big -o back; rm d/y; rmdir d; bye")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n.has(t, "big", big)
	if got, err := os.ReadFile(filepath.Join(p.home, "back")); err != nil || string(got) != string(big) {
		t.Errorf("it gets %d bytes, %v", len(got), err)
	}
	n.set(func(h *hooks) { h.commit = refusing })
	if out, err := run("put big -o other; bye"); err == nil || !strings.Contains(out, "the invoice has no number") {
		t.Errorf("a commit that fails: %s", out)
	}
	if got := n.files(t); len(got) != 1 {
		t.Errorf("there is %q", got)
	}
}

func TestRclone(t *testing.T) {
	n := newNode(t)
	p := started(t, n)
	big := content(9<<20 + 5)
	p.file("big", string(big))
	name, port, _ := strings.Cut(p.r.address, ":")
	remote := fmt.Sprintf(":sftp,host=%s,port=%s,user=%s,key_file=%s,known_hosts_file=%s,shell_type=none:", name, port, user, filepath.Join(p.home, "id"), filepath.Join(p.home, "known"))
	run := func(args ...string) (string, error) {
		return p.run("", "rclone", append(args, "--retries", "1", "--low-level-retries", "1", "--config", "/dev/null")...)
	}
	for _, args := range [][]string{
		{"copyto", "big", remote + "d/big"}, {"copyto", "big", remote + "d/big2"}, {"lsl", remote + "d"}, {"copyto", remote + "d/big", "back"},
		{"check", "--download", "--one-way", "--include", "big", p.home, remote + "d"}, {"moveto", remote + "d/big2", remote + "d/big3"}, {"deletefile", remote + "d/big3"},
	} {
		if out, err := run(args...); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	n.has(t, "d/big", big)
	if got, err := os.ReadFile(filepath.Join(p.home, "back")); err != nil || string(got) != string(big) {
		t.Errorf("it gets %d bytes, %v", len(got), err)
	}
	n.set(func(h *hooks) { h.commit = refusing })
	if out, err := run("copyto", "big", remote+"other"); err == nil || !strings.Contains(out, "the invoice has no number") {
		t.Errorf("a commit that fails: %v %s", err, out)
	}
	if got := n.files(t); len(got) != 1 {
		t.Errorf("there is %q", got)
	}
}

// TestCurl is of libssh2.
func TestCurl(t *testing.T) {
	n := newNode(t)
	p := started(t, n)
	curl := program(t, "curl")
	if out, err := exec.CommandContext(t.Context(), curl, "--version").Output(); err != nil || !strings.Contains(string(out), " sftp ") {
		t.Skip("curl has no SFTP")
	}
	big := content(3<<20 + 1)
	p.file("big", string(big))
	run := func(args ...string) (string, error) {
		return p.run("", "curl", append([]string{"-q", "-sS", "-k", "--user", user + ":" + password}, args...)...)
	}
	at := "sftp://" + p.r.address
	for _, args := range [][]string{
		{"-T", "big", "--ftp-create-dirs", at + "/d/big"}, {"-o", "back", at + "/d/big"}, {"-o", "end", "-r", "3000000-", at + "/d/big"}, {at + "/d/"},
		{"-Q", "-rename /d/big /d/moved", at + "/d/"},
	} {
		if out, err := run(args...); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	n.has(t, "d/moved", big)
	for name, want := range map[string][]byte{"back": big, "end": big[3_000_000:]} {
		if got, err := os.ReadFile(filepath.Join(p.home, name)); err != nil || string(got) != string(want) {
			t.Errorf("%s has %d bytes, %v", name, len(got), err)
		}
	}
	n.set(func(h *hooks) { h.commit = refusing })
	_, _ = run("-T", "big", at+"/other") // curl does not look at what CLOSE says
	if got := n.files(t); len(got) != 1 {
		t.Errorf("there is %q", got)
	}
}
