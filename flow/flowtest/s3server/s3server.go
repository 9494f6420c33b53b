// Package s3server runs a real S3 server on loopback for tests: versitygw, which keeps
// objects as files. .ci/test builds it; $PANNIER_VERSITYGW names the program. Without it,
// tests are skipped, and .ci/test tells.
package s3server

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/flow/flowtest/testcert"
)

// Env names the program; fallback is where .ci/test builds it.
const (
	Env      = "PANNIER_VERSITYGW"
	fallback = "/var/cache/pannier-test/s3-v1.8.0/versitygw"
)

// The keys of the only user, and the bucket that is there.
const (
	AccessKey = "pannier"
	SecretKey = "pannier-secret"
	Bucket    = "bucket"
)

// Server is one that runs until the end of the test.
type Server struct {
	Address string // HOST:PORT
	URL     string // of the bucket, as an endpoint
	Data    string // directory of the bucket, on this host
	Root    string // of all buckets
	CA      string // with TLS: file with the certificate, in PEM

	t        testing.TB
	program  string
	work     string
	settings []string
	room     int64 // bytes that it has; 0: all that there are
	pid      int
	over     chan struct{}
}

// Option is how a server is run.
type Option func(*Server)

// Small has the buckets on a file system of their own, which is full after so many bytes. The test is skipped where none may be
// mounted.
func Small(bytes int64) Option { return func(s *Server) { s.room = bytes } }

// Grow makes the file system of a Small server larger.
func (s *Server) Grow(bytes int64) {
	s.t.Helper()
	if err := flowtest.ResizeSmall(s.Root, bytes); err != nil {
		s.t.Fatal(err)
	}
}

// Start runs a server, with TLS or without.
func Start(t testing.TB, secure bool, options ...Option) *Server {
	t.Helper()
	program := os.Getenv(Env)
	if program == "" {
		program = fallback
	}
	if _, err := os.Stat(program); err != nil {
		t.Skipf("there is no %s: S3 is not tested with a real server; go install github.com/versity/versitygw/cmd/versitygw makes it, $%s says where it is", program, Env)
	}
	work, err := os.MkdirTemp("", "pannier-s3-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(work) })
	s := &Server{t: t, program: program, work: work, Root: filepath.Join(work, "buckets")}
	s.Data = filepath.Join(s.Root, Bucket)
	for _, o := range options {
		o(s)
	}
	for _, d := range []string{s.Root, filepath.Join(work, "meta")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if s.room > 0 {
		if err := flowtest.SmallMount(s.Root, s.room); err != nil {
			t.Skipf("no small file system: %v; S3 is not tested with a full one", err)
		}
		t.Cleanup(func() {
			if err := flowtest.Unmount(s.Root); err != nil {
				t.Error(err)
			}
		})
	}
	if err := os.MkdirAll(s.Data, 0o755); err != nil {
		t.Fatal(err)
	}
	scheme := "s3+http://"
	if secure {
		cert := testcert.New(t, work, "127.0.0.2")
		scheme, s.CA = "s3://", cert.File
		s.settings = []string{"--cert", cert.File, "--key", cert.Key}
	}
	s.Address = freeport.For(t, "127.0.0.2")
	s.URL = scheme + s.Address + "/" + Bucket
	if said, err := s.start(); err != nil {
		t.Fatalf("the server does not start: %v: %s", err, said)
	}
	return s
}

// start runs the server and waits until it answers. Metadata are beside the data: not
// every file system of a test has extended attributes.
func (s *Server) start() (string, error) {
	args := append([]string{"--access", AccessKey, "--secret", SecretKey, "--port", s.Address, "--keep-alive", "--quiet"}, s.settings...)
	cmd := exec.Command(s.program, append(args, "posix", "--sidecar", filepath.Join(s.work, "meta"), s.Root)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return "", err
	}
	over := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(over)
	}()
	s.pid, s.over = cmd.Process.Pid, over
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-over
	})
	for range 500 {
		select {
		case <-over:
			return said.String(), errors.New("it has ended")
		case <-time.After(20 * time.Millisecond):
		}
		if c, err := net.DialTimeout("tcp", s.Address, time.Second); err == nil {
			_ = c.Close()
			return "", nil
		}
	}
	_ = cmd.Process.Kill()
	<-over
	return said.String(), errors.New("it does not listen")
}

// Kill ends the server without a word.
func (s *Server) Kill() {
	_ = syscall.Kill(s.pid, syscall.SIGKILL)
	<-s.over
}

// Restart starts a server that was killed, with its files and at its address. One that
// runs is left alone.
func (s *Server) Restart() {
	s.t.Helper()
	select {
	case <-s.over:
	default:
		return
	}
	if said, err := s.start(); err != nil {
		s.t.Fatalf("the server does not start again: %v: %s", err, said)
	}
}

// PID is the server's process.
func (s *Server) PID() int { return s.pid }
