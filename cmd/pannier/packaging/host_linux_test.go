package packaging

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// host is a system of its own, with systemd: what this one has installed, in namespaces, as
// testdata/boot.sh makes it.
type host struct {
	t    testing.TB
	name string
	init string // its first process, as it is called here
}

// within is how long something may take that is done at once on an idle machine.
const within = 2 * time.Minute

// newHost boots one, or skips the test.
func newHost(t testing.TB, name string) *host {
	t.Helper()
	needs(t, "unshare", "nsenter", "setpriv", "pivot_root", "ip", "dpkg", "/lib/systemd/systemd")
	if os.Getuid() != 0 {
		t.Skip("not root")
	}
	await(t, "inotify instance left, of which systemd needs some: something on this machine has them all (fs.inotify.max_user_instances)", instances)
	dir, group := t.TempDir(), fmt.Sprintf("pannier-%d-%s", os.Getpid(), name)
	var said bytes.Buffer
	cmd := exec.Command("unshare", "--mount", "--uts", "--ipc", "--net", "--propagation", "private", "sh", "testdata/boot.sh", dir, group, name)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	h := &host{t: t, name: name}
	t.Cleanup(func() { h.end(cmd.Process.Pid, over, dir, group) })
	await(t, "system that runs", func() bool {
		select {
		case err := <-over:
			over <- err
			t.Fatalf("%s does not boot: %v\n%s", name, err, &said)
		default:
		}
		h.init = child(cmd.Process.Pid)
		state, _ := h.try("systemctl is-system-running")
		return state == "running\n" || state == "degraded\n"
	})
	return h
}

// end kills all of it.
func (h *host) end(pid int, over chan error, dir, group string) {
	if h.t.Failed() {
		log, _ := h.try("journalctl --no-pager --lines 60 --unit pannier")
		h.t.Logf("%s says\n%s", h.name, log)
	}
	if init, err := strconv.Atoi(child(pid)); err == nil {
		_ = syscall.Kill(init, syscall.SIGKILL) // and with it all others in there
	} else {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-over
	script := `mount -t cgroup2 none "$1" && [ ! -e "$1/$2" ] || find "$1/$2" -depth -type d -exec rmdir {} +`
	if out, err := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", dir, group).CombinedOutput(); err != nil {
		h.t.Errorf("the cgroup %s is left: %v\n%s", group, err, out)
	}
}

// wire has two hosts reach each other as NAME.example, over a network of their own.
func wire(a, b *host) {
	a.t.Helper()
	ip := func(h *host, args ...string) {
		run(h.t, ".", "nsenter", append([]string{"-t", h.init, "-n", "ip"}, args...)...)
	}
	ip(a, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", b.init)
	for i, h := range []*host{a, b} {
		ip(h, "addr", "add", fmt.Sprintf("%s/24", address(i)), "dev", "wire")
		ip(h, "link", "set", "wire", "up")
		h.write("/etc/hosts", fmt.Sprintf("127.0.0.1 localhost\n%s %s.example\n%s %s.example\n", address(0), a.name, address(1), b.name))
	}
}

// address is that of the first or second host on the wire.
func address(i int) string { return fmt.Sprintf("10.213.78.%d", i+1) }

// copy has a file of this host there.
func (h *host) copy(from, to string) {
	h.t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(to, string(text))
}

// write puts a text into a file, whose owner and mode stay.
func (h *host) write(path, text string) {
	h.t.Helper()
	cmd := h.command("cat >" + path)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("%s: write %s: %v\n%s", h.name, path, err, out)
	}
}

// command is a script that root types in there.
func (h *host) command(script string) *exec.Cmd {
	return exec.Command("nsenter", "-t", h.init, "-a", "env", "-i", "-C", "/root", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "sh", "-euc", script)
}

// try is what a script prints, both ways, and how it ended.
func (h *host) try(script string) (string, error) {
	out, err := h.command(script).CombinedOutput()
	return string(out), err
}

// run is what a script prints on standard output; the test is over if it fails.
func (h *host) run(script string) string {
	h.t.Helper()
	var out, complaint bytes.Buffer
	cmd := h.command(script)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("%s: %s: %v\n%s%s", h.name, script, err, &out, &complaint)
	}
	return out.String()
}

// refused has a script fail and say what is wanted.
func (h *host) refused(script, want string) {
	h.t.Helper()
	if out, err := h.try(script); err == nil || !strings.Contains(out, want) {
		h.t.Errorf("%s: %s: %v\n%swithout %q", h.name, script, err, out, want)
	}
}

// unit is a property of the unit of the node.
func (h *host) unit(property string) string {
	h.t.Helper()
	return strings.TrimSpace(h.run("systemctl show --value --property " + property + " pannier"))
}

// await waits until something is so.
func await(t testing.TB, what string, so func() bool) {
	t.Helper()
	for began := time.Now(); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > within {
			t.Fatalf("there is no %s", what)
		}
	}
}

// child is the child of a process, or empty.
func child(pid int) string {
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "task", strconv.Itoa(pid), "children"))
	return strings.TrimSpace(string(text))
}

// instances reports whether there are enough inotify instances for a host: root has so many
// of them, and tests of other packages may have all.
func instances() bool {
	for range 12 {
		fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC)
		if err != nil {
			return false
		}
		defer syscall.Close(fd)
	}
	return true
}
