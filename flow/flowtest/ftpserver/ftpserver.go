// Package ftpserver runs real FTP servers on loopback for tests: vsftpd, proftpd and
// pure-ftpd, with Debian's packages. Those conflict with one another, so they are not
// installed but unpacked, into the directory that $PANNIER_FTP_SERVERS names; .ci/ftpservers
// does that as root on Debian. Without them, tests are skipped, and .ci/test tells.
//
// The servers keep their default rules: a data connection comes from, and goes to, the
// address of its control connection; unless FXP is asked for.
package ftpserver

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/flow/flowtest/testcert"
)

// Env names the directory into which the packages are unpacked; fallback is where .ci/test
// does it.
const (
	Env      = "PANNIER_FTP_SERVERS"
	fallback = "/var/cache/pannier-test/ftp"
)

// Kinds are the servers that there are.
var Kinds = []string{"vsftpd", "proftpd", "pure-ftpd"}

// Host is where they listen.
const Host = "127.0.0.2"

// Server is one that runs until the end of the test.
type Server struct {
	Kind     string
	Address  string // HOST:PORT
	User     string
	Password string
	Data     string // directory that the user is in, on this host
	CA       string // with TLS: file with the certificate, in PEM

	run *run
}

// Option is how a server is run.
type Option func(*run)

// Apart has the kinds listen at different addresses of loopback, none of which is a
// client's: what one connects to the other is foreign to it.
func Apart(r *run) {
	r.host = map[string]string{"vsftpd": "127.0.0.4", "proftpd": "127.0.0.2", "pure-ftpd": "127.0.0.3"}[r.kind]
}

// FXP has the servers connect to, and accept data connections of, foreign addresses. They
// are Apart.
func FXP(r *run) {
	Apart(r)
	r.fxp = true
}

// Slow has a file take a second for each 50 MiB, at vsftpd and proftpd.
func Slow(r *run) { r.slow = true }

// SFTP has proftpd speak SFTP instead.
func SFTP(r *run) { r.sftp = true }

// HostKey is the file with the key of a server that speaks SFTP, in PEM.
func (s *Server) HostKey() string { return filepath.Join(s.run.work, "key.pem") }

// Small has the server's directory on a file system of its own, which is full after so many bytes.
// The test is skipped where none may be mounted.
func Small(bytes int64) Option { return func(r *run) { r.room = bytes } }

// Grow makes the file system of a Small server larger.
func (s *Server) Grow(bytes int64) {
	s.run.t.Helper()
	if err := flowtest.ResizeSmall(s.Data, bytes); err != nil {
		s.run.t.Fatal(err)
	}
}

// One has the servers let one client in at a time.
func One(r *run) { r.one = true }

// TLS has the servers answer AUTH TLS. Data connections need not continue the session of
// the control connection.
func TLS(r *run) { r.tls = true }

// TLSReuse is TLS, and data connections have to continue the session of the control
// connection, as is the default of vsftpd and proftpd.
func TLSReuse(r *run) { r.tls, r.reuse = true, true }

// Kill ends the server and all its sessions without a word.
func (s *Server) Kill() { s.run.kill() }

// Restart starts a server that was killed, with its files and at its address.
func (s *Server) Restart() {
	s.run.t.Helper()
	if err := s.run.start(s); err != nil {
		s.run.t.Fatalf("%s does not start again: %v", s.Kind, err)
	}
}

// The passwords of the virtual users, and of anonymous, who may have any.
const (
	password = "pannier"
	hashed   = "$6$pannier$bmnsdPoDgtlh4oofFSWrYdVb1/zfeK26JlD0GFMG7WrAzXUqlmdEsqAxJTDhFtYPz55w7UNjTuDXUNN0DCuRi1" // of password, as crypt(3) has it
)

//go:embed testdata
var configs embed.FS

// Start runs a server, with its own directory and port. It ends with the test, which is
// skipped where the server is not to be had.
func Start(t testing.TB, kind string, options ...Option) *Server {
	t.Helper()
	root := os.Getenv(Env)
	if root == "" {
		root = fallback
	}
	program := filepath.Join(root, "usr/sbin", kind)
	if _, err := os.Stat(program); err != nil {
		t.Skipf("there is no %s in %s: FTP is not tested with it; .ci/ftpservers DIRECTORY gets it as root on Debian, $%s says where it is", kind, root, Env)
	}
	if kind == "pure-ftpd" && os.Getuid() != 0 {
		t.Skip("pure-ftpd starts as root only: FTP is not tested with it")
	}
	r := &run{t: t, kind: kind, root: root, program: program, host: Host, who: unprivileged(t)}
	for _, o := range options {
		o(r)
	}
	for module, wanted := range map[string]bool{"mod_tls.so": r.tls && kind == "proftpd", "mod_sftp.so": r.sftp} {
		if _, err := os.Stat(filepath.Join(root, "usr/lib/proftpd", module)); err != nil && wanted {
			t.Skipf("there is no %s in %s: proftpd is not tested with it; .ci/ftpservers DIRECTORY gets it", module, root)
		}
	}
	r.dirs()
	s := &Server{Kind: kind, User: "pannier", Password: password, Data: r.data, run: r}
	if r.tls || r.sftp {
		s.CA = r.certificate()
	}
	for try := 0; ; try++ { // the port is free now, and might not be any more in a moment
		r.port = freeport.Port(t, r.host)
		s.Address = net.JoinHostPort(r.host, r.port)
		err := r.start(s)
		if err == nil {
			t.Cleanup(r.end)
			return s
		}
		if try == 3 {
			t.Fatalf("%s does not start: %v", kind, err)
		}
	}
}

// run is a server's process and what it has been given.
type run struct {
	t                   testing.TB
	kind                string
	root, program, host string
	port                string
	fxp, tls, reuse     bool
	sftp                bool
	slow, one           bool
	room, quota         int64 // bytes of the file system, and of the user; 0: any
	who                 *user.User
	work, data          string
	pid                 int
	over                chan struct{} // closed when the process is
}

// unprivileged is who the servers run as.
func unprivileged(t testing.TB) *user.User {
	t.Helper()
	who, err := user.Current()
	if err == nil && who.Uid == "0" {
		who, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Fatal(err)
	}
	return who
}

// dirs makes the server's directories, in a place where it may go.
func (r *run) dirs() {
	r.t.Helper()
	work, err := os.MkdirTemp("", "pannier-ftp-")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = os.RemoveAll(work) })
	r.work, r.data = work, filepath.Join(work, "data")
	uid, gid := r.ids()
	if err := os.Mkdir(r.data, 0o755); err != nil {
		r.t.Fatal(err)
	}
	if r.room > 0 {
		if err := flowtest.SmallMount(r.data, r.room); err != nil {
			r.t.Skipf("no small file system for %s: %v; FTP is not tested with a full one", r.kind, err)
		}
		r.t.Cleanup(func() {
			if err := flowtest.Unmount(r.data); err != nil {
				r.t.Error(err)
			}
		})
	}
	for _, err := range []error{os.Chmod(work, 0o755), os.Chown(work, int(uid), int(gid)), os.Chown(r.data, int(uid), int(gid))} {
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *run) ids() (uid, gid uint32) {
	u, _ := strconv.ParseUint(r.who.Uid, 10, 32)
	g, _ := strconv.ParseUint(r.who.Gid, 10, 32)
	return uint32(u), uint32(g)
}

// write puts a file beside the data, readable for the server.
func (r *run) write(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.work, name)
	uid, gid := r.ids()
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chown(path, int(uid), int(gid))); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// extra are the files of testdata that follow the first, for what was asked.
func (r *run) extra(name string) (files []string) {
	if r.slow {
		files = append(files, name+".slow")
	}
	if r.one {
		files = append(files, name+".one")
	}
	if r.quota > 0 {
		files = append(files, name+".quota")
	}
	if r.sftp {
		files = append(files, name+".sftp")
	}
	if r.fxp {
		files = append(files, name+".fxp")
	}
	if r.tls {
		files = append(files, name+".tls")
	}
	if r.tls && !r.reuse {
		files = append(files, name+".noreuse")
	}
	return files
}

// certificate makes one for the addresses of loopback, readable for the server.
func (r *run) certificate() string {
	r.t.Helper()
	c := testcert.New(r.t, r.work, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	uid, gid := r.ids()
	for _, file := range []string{c.File, c.Key, c.Both} {
		if err := os.Chown(file, int(uid), int(gid)); err != nil {
			r.t.Fatal(err)
		}
	}
	return c.File
}

// config fills in a file of testdata.
func (r *run) config(name string) string {
	r.t.Helper()
	var text []byte
	for _, file := range append([]string{name}, r.extra(name)...) {
		part, err := configs.ReadFile("testdata/" + file)
		if err != nil {
			r.t.Fatal(err)
		}
		text = append(text, part...)
	}
	group, err := user.LookupGroupId(r.who.Gid)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.write(name, strings.NewReplacer("{HOST}", r.host, "{PORT}", r.port, "{USER}", r.who.Username, "{GROUP}", group.Name,
		"{ROOT}", r.root, "{WORK}", r.work, "{DATA}", r.data).Replace(string(text)))
}

// account is the virtual user, as a file of one line.
func (r *run) account(name, rest string) string {
	r.t.Helper()
	return r.write(name, fmt.Sprintf("%s:%s:%s:%s::%s%s\n", "pannier", hashed, r.who.Uid, r.who.Gid, r.data, rest))
}

// start runs the server and waits until it answers.
func (r *run) start(s *Server) error {
	var cmd *exec.Cmd
	switch s.Kind {
	case "vsftpd":
		s.User = "anonymous"
		cmd = exec.Command(r.program, r.config("vsftpd.conf"))
	case "proftpd":
		r.account("passwd", ":/bin/false")
		if r.quota > 0 {
			if err := r.limit(); err != nil {
				return err
			}
		}
		cmd = exec.Command(r.program, "-n", "-q", "-c", r.config("proftpd.conf"))
	case "pure-ftpd":
		if err := r.users(); err != nil {
			return err
		}
		cmd = exec.Command(r.program, "-4", "-S", r.host+","+r.port, "-E", "-l", "puredb:"+filepath.Join(r.work, "users.pdb"), "-u", "1", "-H", "-j", "-U", "022:022", "-c", "50", "-C", "50", "-I", "5", "-L", "20000:8",
			"-g", filepath.Join(r.work, "pid"))
		if r.one {
			cmd.Args = append(cmd.Args, "-c", "1")
		}
		if r.fxp {
			cmd.Args = append(cmd.Args, "-w")
		}
		if r.tls {
			cmd.Args = append(cmd.Args, "-Y", "1", "-2", filepath.Join(r.work, "both.pem"))
		}
	}
	cmd.SysProcAttr, cmd.WaitDelay = &syscall.SysProcAttr{}, time.Second // sessions have its standard output
	if os.Getuid() == 0 && s.Kind != "pure-ftpd" {                       // which becomes somebody else by itself
		uid, gid := r.ids()
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(over)
	}()
	r.pid, r.over = cmd.Process.Pid, over
	for began := time.Now(); time.Since(began) < 30*time.Second; {
		select {
		case <-over:
			return fmt.Errorf("it has ended: %s", said.Bytes())
		case <-time.After(20 * time.Millisecond):
		}
		if greets(s.Address) {
			return nil
		}
	}
	r.kill()
	return fmt.Errorf("it does not answer: %s", said.Bytes())
}

// greets says whether somebody listens there, and says 220, or SSH-2.0.
func greets(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	hello := make([]byte, 3)
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = io.ReadFull(c, hello)
	return err == nil && (string(hello) == "220" || string(hello) == "SSH")
}

// kill ends the server, and returns when nothing of it is left: another may have its port.
func (r *run) kill() {
	select {
	case <-r.over: // its number may be another process's
	default:
		flowtest.Kill(r.pid)
		<-r.over
	}
}

// end is kill after a test, with what the server has to say about one that failed.
func (r *run) end() {
	r.kill()
	for _, name := range []string{"log", "tls.log"} {
		if log, err := os.ReadFile(filepath.Join(r.work, name)); err == nil && r.t.Failed() {
			r.t.Logf("%s says\n%s", r.kind, log)
		}
	}
}
