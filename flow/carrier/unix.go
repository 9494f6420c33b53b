package carrier

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

const (
	claimTries  = 8               // attempts to put a socket in its place
	answerLimit = 2 * time.Second // for an existing socket to answer
)

// unixListener is a listening socket whose name goes with it, if it is still its own.
type unixListener struct {
	*net.UnixListener
	path string
	self fs.FileInfo
}

// ListenUnix is a unix socket for others than this package: at path, which it
// takes from a dead process but not from a live one (fault.Exists), with that
// mode from the first moment on. Close removes the name.
func ListenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	l, err := listenUnix(path, mode)
	if err != nil {
		return nil, failure("listen", path, err)
	}
	return l, nil
}

// PeerUID is the user of the process at the other end of a unix socket, as it
// was when that called connect; -1 where the system does not say.
func PeerUID(c net.Conn) int { return peerUID(c) }

// listenUnix listens at path. The socket is bound and given its mode under a
// name of its own and then linked to path: whoever sees it there can connect,
// and nobody with the wrong mode. What is already there stays, unless it
// is a socket nobody answers at.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	temp := filepath.Join(filepath.Dir(path), ".pn-"+rand.Text()[:12])
	if len(temp) > maxUnixPath {
		return nil, fault.New("listen", fault.TooLong, "the folder of the socket leaves no room for a temporary name within %d bytes", maxUnixPath)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err // without the temporary name
		}
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	defer func() { _ = os.Remove(temp) }()
	if err = os.Chmod(temp, mode.Perm()); err == nil {
		err = claim(temp, path)
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	self, err := os.Lstat(temp)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return &unixListener{UnixListener: ln, path: path, self: self}, nil
}

// claim links temp to path, removing stale sockets that are in the way.
func claim(temp, path string) error {
	for range claimTries {
		err := os.Link(temp, path)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := removeStale(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fault.New("listen", fault.Exists, "others keep taking the name")
}

// removeStale removes a socket at path that nobody answers at. Of several
// processes doing this at once none removes the live socket that another has just put
// there: the file is first moved aside, and put back if it is not the
// one that was found dead. (In the moment between, a third process can take the name.)
func removeStale(path string) error {
	found, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if found.Mode().Type() != fs.ModeSocket {
		return fault.New("listen", fault.Exists, "%s is there and is not a socket", path)
	}
	if err := nobodyAnswers(path); err != nil {
		return err
	}
	aside := filepath.Join(filepath.Dir(path), ".pn-"+rand.Text()[:12])
	if err := os.Rename(path, aside); err != nil {
		return err
	}
	if moved, err := os.Lstat(aside); err != nil || !os.SameFile(found, moved) {
		err = errors.Join(err, os.Link(aside, path))
		if err != nil {
			return err
		}
	}
	return os.Remove(aside)
}

// nobodyAnswers is nil if connecting to the socket is refused, which is what
// the kernel does when no process has it open for listening.
func nobodyAnswers(path string) error {
	c, err := net.DialTimeout("unix", path, answerLimit)
	switch {
	case err == nil:
		return errors.Join(fault.New("listen", fault.Exists, "another process listens at %s", path), c.Close())
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil
	}
	return err
}

// Close closes the socket and removes its name, unless another process has the name now.
func (l *unixListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.self) {
		_ = os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }
