package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestText: what the peer reads, and what it does not.
func TestText(t *testing.T) {
	const secret = "/srv/secret"
	path := &fs.PathError{Op: "open", Path: secret, Err: syscall.ENOENT}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{Wrap("open sink", secret, path), "open sink: not found: no such file or directory"},
		{Wrap("rename", secret, &os.LinkError{Op: "rename", Old: secret, New: secret, Err: syscall.EXDEV}), "rename: input/output error: invalid cross-device link"},
		{Wrap("dial", "", &net.OpError{Op: "dial", Net: secret, Err: os.NewSyscallError(secret, syscall.ECONNREFUSED)}), "dial: connection lost: connection refused"},
		{Wrap("read", secret, errors.New(secret)), "read: internal"},
		{Wrap("read", secret, fmt.Errorf("%s: %w", secret, context.Canceled)), "read: cancelled: context canceled"},
		{path, "no such file or directory"},
		{errors.New(secret), "internal"},
		{New("send", QuotaExceeded, "%d of %d bytes after %v", 5, 6, time.Second), "send: quota exceeded: 5 of 6 bytes after 1s"},
		{New("find", NotFound, "no %q among %v or %s, %x", secret, []string{secret}, secret, []byte(secret)), `find: not found: no ... among ... or ..., ...`},
		{New("find", NotFound, "no %q, %d", Shown("mine"), 3).Advise("look in %s", secret), `find: not found: no "mine", 3`},
		{New("parse", Invalid, "effect %d: %v", 3, New("parse effect", Invalid, "direction %d", 7)), "parse: invalid argument: effect 3: parse effect: invalid argument: direction 7"},
		{New("parse", Invalid, "not an ask: %v", errors.New(secret)), "parse: invalid argument: not an ask: ..."},
		{New("parse", Invalid, "%w", path), "parse: invalid argument: no such file or directory"},
		{NewLocal("open", Invalid, "offset %d of %s", 7, secret), "open: invalid argument"},
		{NewLocal("open", Stale, "%q: %w", secret, New("read", Corrupt, "short")), "open: stale: read: corrupt data: short"},
		{Wrap("receive", "", errors.Join(New("write", NoSpace, "full"), errors.New(secret), path)), "receive: no space: write: no space: full; no such file or directory"},
		{Wrap("run", secret, FromPeer("store", NoSpace, "full")), "run: peer reports: store: peer reports: no space: full"},
		{Wrap("run", secret, Concluded("session", Lost, "gone")), "run: session: connection lost: gone"},
		{fmt.Errorf("%s: %w", secret, New("run", IO, "broken")), "run: input/output error: broken"},
		{&Error{Op: "open", Kind: Exists, Subject: secret}, "open: already exists"},
		{Wrap("lock", secret, Overloaded), "lock: overloaded"},
	} {
		if got := Text(tc.err); got != tc.want {
			t.Errorf("of %v the peer reads\n%s, want\n%s", tc.err, got, tc.want)
		}
	}
}

// TestTextProperty: whatever an error is made of, no name that was put into it
// comes out.
func TestTextProperty(t *testing.T) {
	const secret = "secret"
	var gen func(depth int) *rapid.Generator[error]
	gen = func(depth int) *rapid.Generator[error] {
		return rapid.Custom(func(t *rapid.T) error {
			if depth == 0 {
				return rapid.SampledFrom([]error{errors.New(secret), syscall.EIO, &fs.PathError{Op: secret, Path: secret, Err: errors.New(secret)}, context.Canceled, IO}).Draw(t, "leaf")
			}
			inner := gen(depth-1).Draw(t, "inner")
			switch rapid.IntRange(0, 6).Draw(t, "how") {
			case 0:
				return Wrap("op", secret, inner)
			case 1:
				return New("op", Internal, "x %s %v %d", secret, inner, 3)
			case 2:
				return New("op", Internal, "x %q %w", secret, inner)
			case 3:
				return NewLocal("op", Internal, "x %d %s %w", 3, secret, inner)
			case 4:
				return fmt.Errorf(secret+" %w", inner)
			case 5:
				return errors.Join(inner, gen(depth-1).Draw(t, "other"))
			}
			return &fs.PathError{Op: secret, Path: secret, Err: inner}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		err := gen(rapid.IntRange(0, 5).Draw(t, "depth")).Draw(t, "error")
		if s := Text(err); strings.Contains(s, secret) || s == "" || len(s) > MaxText {
			t.Fatalf("of %v the peer reads %q", err, s)
		}
	})
}
