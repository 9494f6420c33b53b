package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestKindOf(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want Kind
	}{
		{New("op", Corrupt, "x"), Corrupt},
		{fmt.Errorf("wrapped: %w", New("op", Stale, "x")), Stale},
		{Refused, Refused},
		{context.Canceled, Canceled},
		{context.DeadlineExceeded, Deadline},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, NotFound},
		{os.ErrExist, Exists},
		{syscall.EACCES, Permission},
		{syscall.ENOSPC, NoSpace},
		{syscall.EDQUOT, NoSpace},
		{syscall.EIO, IO},
		{errors.New("?"), Internal},
	} {
		if got := KindOf(tc.err); got != tc.want {
			t.Errorf("KindOf(%v) = %v, want %v", tc.err, got, tc.want)
		}
	}
}

// TestEveryKindHasAName: the numbers are the protocol's, without a gap.
func TestEveryKindHasAName(t *testing.T) {
	seen := map[string]bool{}
	for i, k := range Kinds() {
		if int(k) != i+1 || !k.Known() || seen[k.String()] {
			t.Errorf("kind %d is number %d, known %v, called %q", i+1, k, k.Known(), k)
		}
		seen[k.String()] = true
	}
	if len(Kinds()) != len(kindNames) || Kind(999).Known() || Kind(999).String() != "kind 999" {
		t.Error("an unknown kind has a name, or a known one is not listed")
	}
}

func TestWrap(t *testing.T) {
	inner := FromPeer("store", QuotaExceeded, "too much")
	err := Wrap("put", "movie.mov", inner)
	var e *Error
	if !errors.As(err, &e) || e.Kind != QuotaExceeded || e.Side != Peer || e.Subject != "movie.mov" {
		t.Errorf("wrapped to %#v", e)
	}
	if !errors.Is(err, QuotaExceeded) || errors.Is(err, Corrupt) {
		t.Error("errors.Is does not see the kind")
	}
	if Wrap("put", "", nil) != nil {
		t.Error("nil became an error")
	}
	if again := Wrap("put", "movie.mov", err); again != err {
		t.Errorf("wrapped twice: %v", again)
	}
	want := `put "movie.mov": peer reports: store: peer reports: quota exceeded: too much`
	if err.Error() != want {
		t.Errorf("text is %q, want %q", err, want)
	}
}

// TestKindIsSaidOnce: the system's words for an error are often the kind's.
func TestKindIsSaidOnce(t *testing.T) {
	err := Wrap("list directory", "in", WithoutPath(&fs.PathError{Op: "openat", Path: "in", Err: syscall.EACCES}))
	if got, want := err.Error(), `list directory "in": permission denied`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := Text(err), "list directory: permission denied"; got != want {
		t.Errorf("the peer is told %q, want %q", got, want)
	}
	if got, want := Brief(err), `list directory "in": permission denied`; got != want {
		t.Errorf("briefly %q, want %q", got, want)
	}
}

// TestAdvice: it is for whoever called this API, wherever in the chain it is,
// and for nobody else.
func TestAdvice(t *testing.T) {
	inner := New("send", QuotaExceeded, "12 bytes, the quota is 3").Advise("raise %s", "Quota")
	outer := &Error{Op: "put", Kind: Refused, Err: errors.Join(errors.New("first"), fmt.Errorf("because %w, and so on", inner)), Advice: "ask again"}
	const want = "put: refused: first\nbecause send: quota exceeded: 12 bytes, the quota is 3"
	if got := outer.Error(); got != want+"; raise Quota, and so on; ask again" {
		t.Errorf("%q", got)
	}
	if got := Plain(outer); got != want+", and so on" {
		t.Errorf("%q", got)
	}
	if got := Text(outer); got != "put: refused: send: quota exceeded: 12 bytes, the quota is 3" {
		t.Errorf("%q", got)
	}
	if Plain(errors.New("x")) != "x" {
		t.Error("a foreign error has changed")
	}
}

func TestSubjectIsQuoted(t *testing.T) {
	for subject, want := range map[string]string{
		`a`: `"a"`, `file "a"`: "`file \"a\"`", "file \"a`\"": "\"file \\\"a`\\\"\"", "\"\u202e": `"\"\u202e"`, "\"\x1b": `"\"\x1b"`,
	} {
		if got := (&Error{Op: "open", Kind: Exists, Subject: subject}).Error(); got != "open "+want+": already exists" {
			t.Errorf("%q: %s", subject, got)
		}
	}
}

func TestTextIsBounded(t *testing.T) {
	long := strings.Repeat("ä", MaxText)
	if s := Text(FromPeer("op", IO, long)); len(s) > MaxText || !strings.HasSuffix(s, "...") || strings.ContainsRune(s, '�') {
		t.Errorf("%d bytes: %q", len(s), s)
	}
	if s := Text(told("a\xffb")); s != "a?b" {
		t.Errorf("%q", s)
	}
	if e := FromPeer("op", IO, long); len(e.Err.Error()) > MaxText {
		t.Errorf("a peer's text of %d bytes", len(e.Err.Error()))
	}
}

// TestTooManyFiles: a limit that is reached is no error of what wanted one more.
func TestTooManyFiles(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE} {
		if k := KindOf(&os.PathError{Op: "open", Path: "x", Err: errno}); k != Overloaded {
			t.Errorf("%v is %v", errno, k)
		}
	}
}
