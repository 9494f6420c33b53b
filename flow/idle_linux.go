package flow

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// idlers watches the connections that collections have had nothing from.
var idlers watch

// watch is an epoll instance with one goroutine, both there while there is anything to
// watch.
type watch struct {
	mu   sync.Mutex
	poll *os.File // nil: there is none
	raw  syscall.RawConn
	of   map[int32]*Collection // by id
	last int32
}

// watch has c woken when its connection can be read. On false it is not watched.
func (w *watch) watch(c *Collection) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !c.idle.Load() {
		return true // it has been woken
	}
	if w.poll == nil && !w.begin() {
		return false
	}
	for c.id == 0 || w.of[c.id] != nil { // ids come round
		w.last++
		c.id = w.last
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: c.id}
	var err error
	closed := c.raw.Control(func(fd uintptr) { err = w.control(int(fd), &e) })
	if closed != nil || err != nil {
		w.ends()
		return false
	}
	w.of[c.id] = c
	return true
}

// control sets what is watched for. A connection that is in the instance from an earlier
// rest stays in it.
func (w *watch) control(fd int, e *unix.EpollEvent) (err error) {
	add := w.raw.Control(func(at uintptr) {
		if err = unix.EpollCtl(int(at), unix.EPOLL_CTL_MOD, fd, e); err == unix.ENOENT {
			err = unix.EpollCtl(int(at), unix.EPOLL_CTL_ADD, fd, e)
		}
	})
	if add != nil {
		return add
	}
	return err
}

// forget takes out one that was woken by somebody else.
func (w *watch) forget(c *Collection) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[c.id] == c {
		delete(w.of, c.id)
		w.ends()
	}
}

// begin makes the instance. mu is held.
func (w *watch) begin() bool {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that the runtime waits for it
		_ = unix.Close(fd)
		return false
	}
	w.poll = os.NewFile(uintptr(fd), "epoll")
	if w.raw, err = w.poll.SyscallConn(); err != nil {
		_ = w.poll.Close()
		w.poll = nil
		return false
	}
	w.of = map[int32]*Collection{}
	go w.serve(w.poll, w.raw)
	return true
}

// ends ends the goroutine, and with it the instance, when nothing is watched. mu is held.
func (w *watch) ends() {
	if w.poll != nil && len(w.of) == 0 {
		_ = w.poll.Close()
		w.poll = nil
	}
}

// serve wakes collections until poll is closed.
func (w *watch) serve(poll *os.File, raw syscall.RawConn) {
	events := make([]unix.EpollEvent, 128)
	for {
		var n int
		var err error
		closed := raw.Read(func(fd uintptr) bool {
			n, err = unix.EpollWait(int(fd), events, 0)
			return n != 0 || err != nil
		})
		if closed != nil || err != nil && err != unix.EINTR {
			return
		}
		for _, e := range events[:max(n, 0)] {
			w.mu.Lock()
			var c *Collection
			if w.poll == poll {
				c = w.of[e.Fd]
			}
			w.mu.Unlock()
			if c != nil {
				c.Wake()
			}
		}
	}
}
