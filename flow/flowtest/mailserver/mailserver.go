// Package mailserver runs a real mail server on loopback for tests: Debian's exim4, with STARTTLS,
// TLS from the first byte, AUTH and mailboxes. An installed one would be the system's mail server,
// so it is not installed but unpacked, into the directory that $PANNIER_EXIM names, with
// nss_wrapper, which lets it find its user; .ci/mailserver does that. Without them tests are
// skipped, and .ci/test tells.
package mailserver

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/flow/flowtest/testcert"
)

// Env names the directory of the programs; fallback is where .ci/test unpacks them.
const (
	Env      = "PANNIER_EXIM"
	fallback = "/var/cache/pannier-test/exim"
)

// Who may send, and who has a mailbox. All other recipients are refused for good, and a subject
// with NotNow in it is for now.
const (
	User     = "pannier"
	Password = "pass word"
	Ops      = "ops@example.org"
	Night    = "night@example.org"
	NotNow   = "not now"
)

// whom it runs as where the test is root's: exim delivers nothing as root.
const unprivileged = 65534

//go:embed testdata/exim.conf
var files embed.FS

// Server is one that runs until the end of the test.
type Server struct {
	Plain  string // smtp://localhost:PORT, with STARTTLS
	Secure string // smtps://localhost:PORT
	CA     string // file to trust it by

	dir string
	t   testing.TB
}

// Start runs one.
func Start(t testing.TB) *Server {
	t.Helper()
	root := os.Getenv(Env)
	if root == "" {
		root = fallback
	}
	program, wrapper := filepath.Join(root, "exim4"), filepath.Join(root, "libnss_wrapper.so")
	for _, file := range []string{program, wrapper} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("there is no %s: mail is not tested with a real server; .ci/mailserver DIRECTORY gets it as root on Debian, $%s says where it is", file, Env)
		}
	}
	dir, err := os.MkdirTemp("", "exim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cert := testcert.New(t, dir, "localhost")
	s := &Server{CA: cert.File, dir: dir, t: t}
	uid, gid := os.Getuid(), os.Getgid()
	cmd := exec.Command(program, "-bdf", "-C", filepath.Join(dir, "conf"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if uid == 0 {
		uid, gid = unprivileged, unprivileged
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: unprivileged, Gid: unprivileged}
	}
	plain, secure := freeport.Port(t, "127.0.0.1"), freeport.Port(t, "127.0.0.1")
	s.Plain, s.Secure = "smtp://"+net.JoinHostPort("localhost", plain), "smtps://"+net.JoinHostPort("localhost", secure)
	text, err := files.ReadFile("testdata/exim.conf")
	if err != nil {
		t.Fatal(err)
	}
	s.write("conf", strings.NewReplacer("{PROGRAM}", program, "{DIR}", dir, "{PLAIN}", plain, "{SECURE}", secure, "{CERT}", cert.File, "{KEY}", cert.Key,
		"{USER}", User, "{PASSWORD}", Password).Replace(string(text)))
	s.write("boxes", "ops: ops\nnight: night\n")
	s.write("passwd", fmt.Sprintf("Debian-exim:x:%d:%d::%s:/bin/false\n", uid, gid, dir))
	s.write("group", fmt.Sprintf("Debian-exim:x:%d:\n", gid))
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LD_PRELOAD=" + wrapper, "NSS_WRAPPER_PASSWD=" + filepath.Join(dir, "passwd"), "NSS_WRAPPER_GROUP=" + filepath.Join(dir, "group")}
	for _, name := range []string{".", "conf", "boxes", "passwd", "group", "cert.pem", "key.pem"} {
		if err := os.Chown(filepath.Join(dir, name), uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	s.run(cmd, net.JoinHostPort("127.0.0.1", plain))
	return s
}

func (s *Server) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// run starts it, and returns when it greets.
func (s *Server) run(cmd *exec.Cmd, address string) {
	s.t.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, time.Second
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(over)
	}()
	s.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // and what it has started
		<-over
		if s.t.Failed() {
			main, _ := os.ReadFile(filepath.Join(s.dir, "log/mainlog"))
			panics, _ := os.ReadFile(filepath.Join(s.dir, "log/paniclog"))
			s.t.Logf("exim says\n%s%s%s", &said, main, panics)
		}
	})
	for range 6000 { // a minute
		if greets(address) {
			return
		}
		select {
		case <-over:
			s.t.Fatal("exim has ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.t.Fatal("exim does not greet")
}

func greets(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 4)
	n, _ := c.Read(b)
	_, _ = c.Write([]byte("QUIT\r\n"))
	return string(b[:n]) == "220 "
}

// Mail is what has been delivered into a mailbox, as it lies there, once it is as many as that.
func (s *Server) Mail(address string, n int) []*mail.Message {
	s.t.Helper()
	box, _, _ := strings.Cut(address, "@")
	for range 6000 { // a minute
		got, err := filepath.Glob(filepath.Join(s.dir, "mail", box, "new", "*"))
		if err != nil {
			s.t.Fatal(err)
		}
		if len(got) < n {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		var all []*mail.Message
		for _, file := range got {
			text, err := os.ReadFile(file)
			if err != nil {
				s.t.Fatal(err)
			}
			m, err := mail.ReadMessage(bytes.NewReader(text))
			if err != nil {
				s.t.Fatal(errors.Join(err, errors.New(string(text))))
			}
			all = append(all, m)
		}
		return all
	}
	s.t.Fatalf("in the mailbox %s are not %d mails", box, n)
	return nil
}

// Log is what the server has written of connections, mails and refusals.
func (s *Server) Log() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "log/mainlog"))
	return string(b)
}
