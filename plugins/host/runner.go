package host

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/plugins/host/confine"
	"github.com/pannier/pannier/spec/fault"
)

// runner is a plugin's process, as go-plugin's runner.Runner: it knows nothing of
// calls.
type runner struct {
	cfg     Config
	env     []string // go-plugin's
	dir     string   // of its socket
	file    *os.File // the program
	said    *said
	synced  []io.Closer // of what go-plugin passes on
	cmd     *exec.Cmd
	lease   *os.File      // its end is the process's
	fds     *net.UnixConn // over which descriptors go; nil where the system has no such sockets
	first   *io.PipeReader
	reaping sync.Mutex    // Kill and the end of its number, one at a time
	reaped  chan struct{} // closed when its number may be another's
	exited  chan struct{} // closed when all that it has said was read, too
	fate    error         // then
	ends    sync.Once
}

// open opens the program and checks it; sum is its digest. Its descriptor is above those
// that a process begins with, which would otherwise take its place before exec.
func open(cfg Config) (f *os.File, sum func() (string, error), err error) {
	g, err := os.Open(cfg.Path)
	if err != nil {
		return nil, nil, adviseIf(fault.Wrap("start plugin "+cfg.Name, cfg.Path, err), "say where its program is")
	}
	defer g.Close()
	fi, err := g.Stat()
	if err != nil {
		return nil, nil, fault.Wrap("start plugin "+cfg.Name, cfg.Path, err)
	}
	if !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0 {
		return nil, nil, adviseIf(fault.Wrap("start plugin "+cfg.Name, cfg.Path, fault.New("execute", fault.Permission, "it is no file that can be executed")), "chmod +x it")
	}
	fd, err := unix.FcntlInt(g.Fd(), unix.F_DUPFD_CLOEXEC, 16)
	if err != nil {
		return nil, nil, fault.Wrap("start plugin "+cfg.Name, cfg.Path, err)
	}
	f = os.NewFile(uintptr(fd), cfg.Path)
	if sum, err = digestOf(cfg, f); err != nil {
		_ = f.Close()
		return nil, nil, fault.Wrap("start plugin "+cfg.Name, cfg.Path, err)
	}
	return f, sum, nil
}

// digestOf is the digest of a program, which was held against the configuration's if that
// has one. Otherwise nothing but a report depends on it, and that of this very program,
// which is what runs already, is taken while the process starts.
func digestOf(cfg Config, program *os.File) (func() (string, error), error) {
	sum := sync.OnceValues(func() (string, error) { return digest(program) })
	if cfg.Path == self && selfIsFixed {
		sum = ownDigest
		if cfg.SHA256 == "" {
			go func() { _, _ = sum() }() // whoever wants it waits for it, and sees the error
			return sum, nil
		}
	}
	is, err := sum()
	if err == nil && cfg.SHA256 != "" && !strings.EqualFold(cfg.SHA256, is) {
		err = fault.New("check", fault.Refused, "its sha256 is %s, the configuration has %s", fault.Shown(is), fault.Shown(cfg.SHA256)).Advise("if it was replaced on purpose, put its new sha256 into the configuration")
	}
	return sum, err
}

// ownDigest is that of this program, taken once in its life. It stays right: what is open
// as self is always the file whose pages this process executes, which Linux lets nobody
// write to meanwhile; and if somebody could, this process would be no more to be trusted
// than its plugin.
var ownDigest = sync.OnceValues(func() (string, error) {
	f, err := os.Open(self)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return digest(f)
})

// digest is the sha256 of a program, hexadecimal. Scripts are refused.
func digest(f io.Reader) (string, error) {
	h := sha256.New()
	in := bufio.NewReaderSize(f, 256<<10)
	begin, _ := in.Peek(2)
	script := bytes.Equal(begin, []byte("#!"))
	if _, err := io.Copy(h, in); err != nil {
		return "", err
	}
	if script {
		return "", fault.New("execute", fault.Invalid, "it is a script, of which only the interpreter can be executed").Advise("give the interpreter as the program and the script as its argument")
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// adviseIf adds advice to an error that is one of ours.
func adviseIf(err error, advice string) error {
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Advice == "" {
		return e.Advise("%s", advice)
	}
	return err
}

// Start implements runner.Runner.
func (r *runner) Start(context.Context) (err error) {
	var ours []io.Closer // this end of all, until the process runs
	defer func() {
		if err != nil {
			for _, end := range ours {
				_ = end.Close()
			}
		}
	}()
	lease, leaseEnd, err := os.Pipe()
	if err != nil {
		return fault.Wrap("start plugin", r.cfg.Name, err)
	}
	defer lease.Close()
	ours = append(ours, leaseEnd)
	out, outEnd, err := os.Pipe()
	if err != nil {
		return fault.Wrap("start plugin", r.cfg.Name, err)
	}
	defer outEnd.Close()
	ours = append(ours, out)
	errs, errsEnd, err := os.Pipe()
	if err != nil {
		return fault.Wrap("start plugin", r.cfg.Name, err)
	}
	defer errsEnd.Close()
	ours = append(ours, errs)
	cmd := &exec.Cmd{Path: execPath(r.file.Fd(), r.cfg.Path), Args: append([]string{r.cfg.Path}, r.cfg.Args...), Env: environment(r.cfg, r.env),
		Stdin: lease, Stdout: outEnd, Stderr: errsEnd, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	if mine, its, err := pair(unix.SOCK_SEQPACKET); err == nil {
		defer its.Close()
		cmd.ExtraFiles = []*os.File{its}
		if r.fds, err = unixConn(mine); err != nil {
			return fault.Wrap("start plugin", r.cfg.Name, err)
		}
		ours = append(ours, r.fds)
	}
	program, limits := r.file, confine.Limits{Memory: max(r.cfg.Memory, 0), Files: r.cfg.Files}
	if r.cfg.Path == self {
		program = nil
	}
	if !limited {
		limits.Memory = 0
	}
	if err := confine.Start(cmd, program, limits, r.cfg.Start); err != nil {
		if errors.Is(err, syscall.ENOEXEC) {
			err = fault.New("execute", fault.Unsupported, "%w", syscall.ENOEXEC)
		}
		return adviseIf(fault.Wrap("start plugin "+r.cfg.Name, r.cfg.Path, err), "it has to be a program for this system")
	}
	runtime.KeepAlive(r.file)
	r.cmd, r.lease = cmd, leaseEnd
	first, to := io.Pipe()
	r.first = first
	var heard sync.WaitGroup
	heard.Go(func() { r.stdout(out, to) })
	heard.Go(func() { lines(errs, r.said.line) })
	go func() {
		err := r.reap(cmd)
		late := time.AfterFunc(time.Second, func() { // something outside its group has them still
			_, _ = out.SetReadDeadline(time.Unix(1, 0)), errs.SetReadDeadline(time.Unix(1, 0))
		})
		heard.Wait()
		late.Stop()
		_, _ = out.Close(), errs.Close()
		r.fate = err
		close(r.exited)
	}()
	return nil
}

// stdout passes the first line on, and makes the others records.
func (r *runner) stdout(from io.Reader, first *io.PipeWriter) {
	defer first.Close()
	began := false
	lines(from, func(line []byte) {
		if began {
			r.said.line(line)
			return
		}
		began = true
		_, _ = first.Write(append(bytes.Clone(line), '\n')) // fails if nobody waits for it any more
		_ = first.Close()
	})
}

// environment is what the process gets. Go's runtime collects garbage harder, rather than
// die, from three quarters of the memory on.
func environment(cfg Config, handshake []string) (env []string) {
	if cfg.Memory > 0 {
		env = append(env, "GOMEMLIMIT="+strconv.FormatInt(cfg.Memory/4*3, 10))
	}
	for _, key := range []string{"PATH", "TMPDIR", "HOME", "LANG"} {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	return append(append(env, cfg.Env...), handshake...)
}

// pair is two ends of a unix socket, of which neither is inherited.
func pair(kind int) (mine, other *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

// unixConn takes the file over.
func unixConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("a %T is no unix socket", c)
	}
	return u, nil
}

// Wait implements runner.Runner.
func (r *runner) Wait(context.Context) error {
	<-r.exited
	return r.fate
}

// endLease has the process end by itself.
func (r *runner) endLease() {
	r.ends.Do(func() {
		_ = r.lease.Close()
		if r.fds != nil {
			_ = r.fds.Close()
		}
	})
}

// Kill implements runner.Runner: the whole group, at once.
func (r *runner) Kill(context.Context) error {
	r.endLease()
	r.reaping.Lock()
	defer r.reaping.Unlock()
	select {
	case <-r.reaped:
	default:
		_ = unix.Kill(-r.cmd.Process.Pid, unix.SIGKILL)
	}
	return nil
}

// Stdout implements runner.Runner.
func (r *runner) Stdout() io.ReadCloser { return r.first }

// Stderr implements runner.Runner: go-plugin is told nothing, one line could end it.
func (r *runner) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name implements runner.Runner.
func (r *runner) Name() string { return r.cfg.Name }

// ID implements runner.Runner.
func (r *runner) ID() string {
	if r.cmd == nil {
		return ""
	}
	return strconv.Itoa(r.cmd.Process.Pid)
}

// Diagnose implements runner.Runner.
func (r *runner) Diagnose(context.Context) string { return r.said.tail() }

// PluginToHost implements runner.AddrTranslator.
func (r *runner) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin implements runner.AddrTranslator.
func (r *runner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
