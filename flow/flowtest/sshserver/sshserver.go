// Package sshserver runs the system's sshd on loopback for tests, with keys of its own,
// and who may log in is whoever runs the test.
package sshserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
)

// Server is one that runs until the end of the test.
type Server struct {
	Host, Port string
	Config     string // its file
	User       string
	Key        string // file with the user's private key
	HostKey    string // fingerprint: "SHA256:..."

	t    testing.TB
	argv []string
	cmd  *exec.Cmd
	said *said
}

// Option is how a server is run.
type Option func(*Server, *strings.Builder)

// At has it listen at an address other than a free port of 127.0.0.1.
func At(host, port string) Option {
	return func(s *Server, _ *strings.Builder) { s.Host, s.Port = host, port }
}

// Behind has another command start it: its own is appended.
func Behind(argv ...string) Option {
	return func(s *Server, _ *strings.Builder) { s.argv = append(argv, s.argv...) }
}

// Line is one of its sshd_config; of two that say the same the first counts.
func Line(text string) Option {
	return func(_ *Server, config *strings.Builder) { config.WriteString(text + "\n") }
}

// Start runs sshd. The test is skipped where OpenSSH is not to be had.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	sshd, keygen := Program(t, "sshd"), Program(t, "ssh-keygen")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if me.Uid == "0" { // where its unprivileged part lives
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"host", "user"} {
		runs(t, keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name))
	}
	print := strings.Fields(runs(t, keygen, "-l", "-f", filepath.Join(dir, "host.pub")))
	if len(print) < 2 {
		t.Fatalf("ssh-keygen prints %q", print)
	}
	s := &Server{Host: "127.0.0.1", Config: filepath.Join(dir, "config"), User: me.Username, Key: filepath.Join(dir, "user"), HostKey: print[1], t: t}
	s.argv = []string{sshd, "-D", "-e", "-f", s.Config}
	var config strings.Builder
	for _, o := range options {
		o(s, &config)
	}
	fmt.Fprintf(&config, "HostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nMaxStartups 100\nMaxSessions 100\nSubsystem sftp internal-sftp\n", dir, dir)
	free := s.Port == ""
	for try := 0; ; try++ { // a port that is free now might not be any more in a moment
		if free {
			s.Port = freeport.Port(t, s.Host)
		}
		text := fmt.Sprintf("Port %s\nListenAddress %s\n%s", s.Port, s.Host, config.String())
		if err := os.WriteFile(s.Config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err = s.start(); err == nil {
			break
		}
		if !free || try == 3 {
			t.Fatalf("sshd does not start: %v", err)
		}
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("sshd says\n%s", s.said)
		}
	})
	return s
}

// Address is HOST:PORT.
func (s *Server) Address() string { return net.JoinHostPort(s.Host, s.Port) }

// Client is a command line of ssh or sftp for the server, without port and host.
func (s *Server) Client(program string) []string {
	return []string{Program(s.t, program), "-F", "none", "-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR",
		"-oUser=" + s.User, "-i" + s.Key}
}

// Kill ends the server and all its sessions without a word.
func (s *Server) Kill() {
	if s.cmd.ProcessState != nil { // its number may be another process's
		return
	}
	flowtest.Kill(s.cmd.Process.Pid)
	_ = s.cmd.Wait()
}

// Cut ends its sessions without a word; it goes on listening.
func (s *Server) Cut() {
	for _, pid := range s.Sessions() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Sessions are the processes of those who are connected.
func (s *Server) Sessions() []int { return flowtest.Family(s.cmd.Process.Pid)[1:] }

// Restart starts a server that was killed, at its address.
func (s *Server) Restart() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatalf("sshd does not start again: %v", err)
	}
}

// start returns when it listens.
func (s *Server) start() error {
	s.said = &said{}
	s.cmd = exec.Command(s.argv[0], s.argv[1:]...)
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.WaitDelay = s.said, s.said, time.Second
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(5 * time.Millisecond) {
		switch text := s.said.String(); {
		case strings.Contains(text, "Server listening"):
			return nil
		case strings.Contains(text, "Cannot bind"), strings.Contains(text, "error"):
			s.Kill()
			return errors.New(text)
		}
	}
	s.Kill()
	return errors.New("it does not listen: " + s.said.String())
}

// Program is the path of one of OpenSSH's, or skips the test.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Skipf("there is no %s: nothing is tested with OpenSSH; apt-get install openssh-server openssh-client", name)
		}
	}
	return path
}

func runs(t testing.TB, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
	return string(out)
}

// said is what a process prints, for several to look at.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
