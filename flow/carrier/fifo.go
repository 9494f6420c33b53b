package carrier

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// How often a FIFO is tried that nobody reads yet: the system has no way to wait
// for that which could be given up.
const (
	leastKnock = time.Millisecond
	mostKnock  = 100 * time.Millisecond
)

// openFIFO opens a FIFO for each direction, in any order with the peer: this end
// begins to read, so that the peer can open what it writes, and then opens
// what it writes itself. Who dials tries until the peer reads; who listens waits for
// the first bytes before that, which costs nothing while nobody calls, and then has
// patience.
func openFIFO(ctx context.Context, a Address, listening bool, patience time.Duration) (*fileConn, error) {
	if a.Out == "" {
		f, err := openFile(a.Path, unix.O_RDWR, unix.S_IFCHR, true)
		if err != nil {
			return nil, err
		}
		return newFileConn(f, f, a)
	}
	in, err := openFile(a.Path, unix.O_RDONLY, unix.S_IFIFO, true)
	if err != nil {
		return nil, err
	}
	if !listening {
		return meet(ctx, in, a, nil)
	}
	first, err := firstBytes(ctx, in, a)
	if err != nil {
		_ = in.Close()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return meet(ctx, in, a, first)
}

// firstBytes waits until somebody has written to in.
func firstBytes(ctx context.Context, in *os.File, a Address) ([]byte, error) {
	raw, err := in.SyscallConn()
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = in.Close() })()
	c := &fileConn{in: in, out: in, raw: raw, addr: onePipeAddr(a)}
	err = c.await()
	return c.peeked, errors.Join(ctx.Err(), err)
}

// meet opens the other FIFO as soon as somebody reads it.
func meet(ctx context.Context, in *os.File, a Address, first []byte) (*fileConn, error) {
	for pause := leastKnock; ; pause = min(2*pause, mostKnock) {
		out, err := openFile(a.Out, unix.O_WRONLY, unix.S_IFIFO, false)
		if err == nil {
			c, err := newFileConn(in, out, a)
			if err == nil {
				c.peeked, c.met = first, len(first) > 0
			}
			return c, err
		}
		if !errors.Is(err, unix.ENXIO) {
			_ = in.Close()
			return nil, err
		}
		if !rest(ctx, pause) {
			_ = in.Close()
			return nil, fault.New("open pipe", fault.KindOf(ctx.Err()), "nobody reads %s: %w", a.Out, ctx.Err())
		}
	}
}

// ownFIFOs reports whether nobody but this user and root can open the files of
// a fifo address.
func ownFIFOs(a Address) bool {
	for _, path := range []string{a.Path, a.Out} {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
			return false
		}
	}
	return true
}
