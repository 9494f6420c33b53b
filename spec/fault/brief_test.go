package fault

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
)

// passing is an error around another with the same words, as of a call.
type passing struct{ error }

func (p passing) Unwrap() error { return p.error }

func TestBrief(t *testing.T) {
	absent := &os.PathError{Op: "openat", Path: "x", Err: syscall.ENOENT}
	for _, c := range []struct {
		err  error
		want string
	}{
		{Wrap("call partner", "b", Wrap("open side effect", `file "x"`, Wrap("open source", "x", absent))), `open source "x": openat x: no such file or directory`},
		{Wrap("task exec", "x", New("run command", Refused, "exit status 3: refused: on purpose")), `task exec "x": run command: exit status 3: refused: on purpose`},
		{Wrap("call partner", "b", passing{FromPeer("/a.B/C", Corrupt, "/a.B/C: peer reports: corrupt data: task check: check file: corrupt data: its digest is ..., ... is wanted")}),
			"task check: check file: its digest is ..., ... is wanted"},
		{FromPeer("call the partner", Refused, "refused: task exec: run command: refused: ...: ..."), "task exec: run command: the log there says more"},
		{FromPeer("call the partner", Invalid, "invalid argument: open side effect: open source: invalid argument: it is not a regular file (mode ...)"),
			"open source: it is not a regular file"},
		{Concluded("session", Lost, "write: connection lost"), "write: connection lost"},
		{FromPeer("session", Lost, "concluded: connection lost: connection lost"), "connection lost"},
		{FromPeer("call", Internal, "internal error"), "internal error"},
		{New("look", NotFound, "no such thing").Advise("look elsewhere"), "look: no such thing"},
		{fmt.Errorf("two: %w", New("look", NotFound, "no such thing")), "two: look: not found: no such thing"},
		{errors.New("plain"), "plain"},
		{FromPeer("", Canceled, "a newer version is sent instead"), "a newer version is sent instead"},
		{FromPeer("", Canceled, ""), ""},
		{&Error{Op: "serve", Kind: Draining}, "serve"},
	} {
		if got := Brief(c.err); got != c.want {
			t.Errorf("%v\n is briefly %q\n      want %q", c.err, got, c.want)
		}
	}
}
