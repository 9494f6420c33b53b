package carrier

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/pannier/pannier/spec/fault"
)

// OpenStdio is stdin and stdout as one connection, for others than this package.
// Afterwards stdin is empty and what is written to stdout comes out at stderr.
func OpenStdio() (Conn, error) {
	c, err := openStdio(Address{Scheme: Stdio, Plain: true}, [2]*os.File{})
	if err != nil {
		return nil, failure("open stdio", "", err)
	}
	return newPlain(c), nil
}

// errTerminal: stdin and stdout have not been touched.
var errTerminal = errors.New("stdin or stdout is a terminal, and no peer types: let the peer run this as exec:[...]")

// openStdio makes a connection of this process's stdin and stdout, or of files
// given instead of them, which it takes over. Afterwards stdin is empty and what is written to
// stdout comes out at stderr, so that nothing else gets into the connection.
func openStdio(a Address, files [2]*os.File) (*fileConn, error) {
	if files[0] != nil && files[1] != nil {
		return newFileConn(files[0], files[1], a)
	}
	if term.IsTerminal(unix.Stdin) || term.IsTerminal(unix.Stdout) {
		return nil, fault.New("open stdio", fault.Invalid, "%w", errTerminal)
	}
	in, restoreIn, err := takeDescriptor(unix.Stdin)
	if err != nil {
		return nil, err
	}
	out, restoreOut, err := takeDescriptor(unix.Stdout)
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	defer null.Close()
	if err = errors.Join(redirect(int(null.Fd()), unix.Stdin), redirect(unix.Stderr, unix.Stdout)); err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	c, err := newFileConn(in, out, a)
	if err == nil {
		c.restore = func() error { return errors.Join(restoreIn(), restoreOut()) }
	}
	return c, err
}

// takeDescriptor is a descriptor under another number, without blocking. restore
// makes it block again if it did: others may share it.
func takeDescriptor(number int) (f *os.File, restore func() error, err error) {
	flags, err := unix.FcntlInt(uintptr(number), unix.F_GETFL, 0)
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.FcntlInt(uintptr(number), unix.F_DUPFD_CLOEXEC, unix.Stderr+1)
	if err != nil {
		return nil, nil, err
	}
	if err = unix.SetNonblock(fd, true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fd))
	}
	f = os.NewFile(uintptr(fd), [...]string{"stdin", "stdout"}[number])
	return f, func() error {
		if flags&unix.O_NONBLOCK != 0 {
			return nil
		}
		return control(f, func(fd int) error { return unix.SetNonblock(fd, false) })
	}, nil
}

// control does something with the descriptor of an open file.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = do(int(fd)) })
	return errors.Join(cerr, err)
}
