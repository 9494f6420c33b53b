package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/fault"
)

// roleCage starts a program some of whose system calls its parent decides about:
// the kernel holds them until this program has answered. So the n-th one can
// fail, whichever thread makes it.
const roleCage = "cage"

// cage is the hold on the calls of one process.
type cage struct {
	socket   string
	calls    []int
	listener *os.File // where the child's seccomp descriptor comes from
	decide   func(c caged) syscall.Errno

	mu sync.Mutex // decide runs under it
}

// caged is a call that waits for an answer.
type caged struct {
	nr   int
	path string // of the file in its first argument; empty if there is none
}

// The system calls that cages hold.
var (
	syncCalls  = []int{unix.SYS_FSYNC, unix.SYS_FDATASYNC}
	writeCalls = []int{unix.SYS_PWRITE64}
)

// newCage makes one for processes that are started with wrap. decide says what
// a call returns; 0: it is made.
func newCage(dir string, calls []int, decide func(caged) syscall.Errno) (*cage, error) {
	c := &cage{socket: filepath.Join(dir, "cage"), calls: calls, decide: decide}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: c.socket}), unix.Listen(fd, 8))
	}
	if err != nil {
		return nil, fault.Wrap("make cage", c.socket, err)
	}
	c.listener = os.NewFile(uintptr(fd), c.socket)
	return c, nil
}

func (c *cage) close() error { return errors.Join(c.listener.Close(), os.Remove(c.socket)) }

// start starts a node in the cage.
func (c *cage) start(ctx context.Context, n *nodetest.Node) error {
	self, err := os.Executable()
	if err != nil {
		return fault.Wrap("find program", "", err)
	}
	wrap := []string{self, roleCage, c.socket}
	for _, nr := range c.calls {
		wrap = append(wrap, strconv.Itoa(nr))
	}
	wrap = append(wrap, "--")
	failed := make(chan error, 1)
	go func() { failed <- c.watch() }()
	if err := n.Start(ctx, wrap...); err != nil {
		select {
		case watchErr := <-failed:
			err = errors.Join(err, watchErr)
		default:
		}
		return err
	}
	return nil
}

// watch takes the descriptor of one process and answers until it has ended.
func (c *cage) watch() error {
	conn, _, err := unix.Accept(int(c.listener.Fd()))
	if err != nil {
		return fault.Wrap("take cage", "", err)
	}
	defer unix.Close(conn)
	rights := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(conn, make([]byte, 1), rights, 0)
	if err != nil {
		return fault.Wrap("take cage", "", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return fault.New("take cage", fault.Protocol, "no descriptor came: %v", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return fault.New("take cage", fault.Protocol, "no descriptor came: %v", err)
	}
	defer unix.Close(fds[0])
	for {
		poll := []unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err == unix.EINTR {
			continue
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return nil // it has ended
		}
		c.answer(fds[0])
	}
}

// The kernel's struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type response struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

const (
	notifRecv     = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	notifSend     = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	notifContinue = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE
	modeFilter    = 1          // SECCOMP_SET_MODE_FILTER
	newListener   = 8          // SECCOMP_FILTER_FLAG_NEW_LISTENER
	retNotify     = 0x7fc00000 // SECCOMP_RET_USER_NOTIF
	retAllow      = 0x7fff0000 // SECCOMP_RET_ALLOW
)

// answer decides about one call. A process that was killed meanwhile needs none.
func (c *cage) answer(fd int) {
	var n notification
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifRecv, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return
	}
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(n.args[0])))
	c.mu.Lock()
	errno := c.decide(caged{int(n.nr), path})
	c.mu.Unlock()
	r := response{id: n.id, errno: -int32(errno)}
	if errno == 0 {
		r.flags = notifContinue
	}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifSend, uintptr(unsafe.Pointer(&r)))
}

// cageRole is SOCKET NUMBER... -- COMMAND...: it becomes the command.
func cageRole(args []string) error {
	const op = "enter cage"
	runtime.LockOSThread()
	var filter []unix.SockFilter
	filter = append(filter, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}) // the call's number
	i := 1
	for ; i < len(args) && args[i] != "--"; i++ {
		nr, err := strconv.ParseUint(args[i], 10, 32)
		if err != nil {
			return fault.Wrap(op, "", err)
		}
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: uint32(nr)},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retNotify})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retAllow})
	if i+1 >= len(args) {
		return fault.New(op, fault.Invalid, "the role is started by the scorecard itself")
	}
	conn, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(conn, &unix.SockaddrUnix{Name: args[0]})
	}
	if err == nil {
		err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if err != nil {
		return fault.Wrap(op, "", err)
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, modeFilter, newListener, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fault.Wrap(op, "", errno)
	}
	if err := unix.Sendmsg(conn, []byte{0}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return fault.Wrap(op, "", err)
	}
	return fault.Wrap(op, args[i+1], syscall.Exec(args[i+1], args[i+1:], os.Environ()))
}

// hold does something while no call is decided about.
func (c *cage) hold(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do()
}
