package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/spec/fault"
)

// Ways through programs of the system. The process of each end starts the program,
// does nothing else, and ends it when its own stdin ends; usage is the program's, with
// all that it has started.

// maxListen is how long a program may take until it listens.
const maxListen = 10 * time.Second

// startProgram starts a program that will listen at an address, and waits until it
// does. What it says appears on stderr.
func startProgram(ctx context.Context, addr string, argv ...string) (*post, error) {
	cmd := exec.Command(program(argv[0]), argv[1:]...)
	cmd.Stderr = os.Stderr
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fault.Wrap("start program", argv[0], err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	pid := cmd.Process.Pid
	p := &post{
		addr:  addr,
		usage: func() (Usage, error) { return usageOfAll(pid) },
		close: func() error {
			below := nodetest.Descendants(pid)
			_ = cmd.Process.Signal(syscall.SIGTERM)
			<-ended
			for _, child := range below {
				_ = syscall.Kill(child, syscall.SIGTERM)
			}
			nodetest.Outlive(below, 2*time.Second)
			return nil
		},
	}
	for end := time.Now().Add(maxListen); ; {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			return p, nil
		}
		select {
		case <-ended:
			return nil, fault.New("start program", fault.Internal, "%s has ended; what it says is above", argv[0])
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), p.close())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			return nil, errors.Join(fault.New("start program", fault.Deadline, "%s does not listen at %s", argv[0], addr), p.close())
		}
	}
}

func socatExit(ctx context.Context, job Job) (*post, error)  { return socat(ctx, job.To) }
func socatEntry(ctx context.Context, job Job) (*post, error) { return socat(ctx, job.Addr) }

// socat has a process for each connection. Its buffer is as large as ours, which makes
// it faster than its default, and it waits for the other direction when one has ended.
func socat(ctx context.Context, to string) (*post, error) {
	addr, err := freeport.Address("127.0.0.1")
	if err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(addr)
	return startProgram(ctx, addr, "socat", "-b", fmt.Sprint(wayBuffer), "-t", "60",
		fmt.Sprintf("TCP-LISTEN:%s,bind=%s,fork,reuseaddr,backlog=1024,nodelay", port, host), "TCP:"+to+",nodelay")
}

func sshDir(job Job) string { return filepath.Join(job.Dir, "ssh") }

// sshExit is the system's sshd with keys of the benchmark's.
func sshExit(ctx context.Context, job Job) (*post, error) {
	if os.Getuid() == 0 { // where its unprivileged part lives
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return nil, fault.Wrap("start sshd", "", err)
		}
	}
	dir := sshDir(job)
	if err := os.RemoveAll(dir); err != nil {
		return nil, fault.Wrap("make keys", dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fault.Wrap("make keys", dir, err)
	}
	for _, name := range []string{"host", "user"} {
		out, err := exec.CommandContext(ctx, program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput()
		if err != nil {
			return nil, fault.New("make keys", fault.Internal, "ssh-keygen: %w: %.200s", err, out)
		}
	}
	addr, err := freeport.Address("127.0.0.1")
	if err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(addr)
	config := filepath.Join(dir, "config")
	text := fmt.Sprintf("Port %s\nListenAddress %s\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nLogLevel FATAL\n", port, host, dir, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, fault.Wrap("start sshd", config, err)
	}
	return startProgram(ctx, addr, "sshd", "-D", "-e", "-f", config)
}

// sshEntry is ssh -L with the defaults of the system's version.
func sshEntry(ctx context.Context, job Job) (*post, error) {
	me, err := user.Current()
	if err != nil {
		return nil, fault.Wrap("start ssh", "", err)
	}
	addr, err := freeport.Address("127.0.0.1")
	if err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(job.Addr)
	return startProgram(ctx, addr, "ssh", "-F", "none", "-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR",
		"-oExitOnForwardFailure=yes", "-i"+filepath.Join(sshDir(job), "user"), "-l"+me.Username, "-p"+port, "-N", "-L"+addr+":"+job.To, host)
}
