// Package fault is the one error type of Pannier: what was being done, what
// kind of failure it was, at which end, on what. Kinds are numbered and travel
// between nodes; they are part of the protocol (spec/flow.md, "Kinds") and are
// never renumbered.
package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Kind says what sort of failure it was. The set is closed: a number that this
// version does not know is shown as "kind N" and treated like Internal.
type Kind uint16

const (
	Internal        Kind = 1  // a defect here; the text says where
	Invalid         Kind = 2  // the caller's arguments; the text says what to change
	Canceled        Kind = 3  // the caller gave up
	Deadline        Kind = 4  // the caller's time ran out
	NotFound        Kind = 5  // no such file, stream, call
	Exists          Kind = 6  // the name is taken and the mode forbids replacing
	Permission      Kind = 7  // the operating system or a rule says no
	Unauthenticated Kind = 8  // the peer did not prove who it is
	Unsupported     Kind = 9  // the peer, kernel or file system cannot do it
	Refused         Kind = 10 // the peer's application said no
	Protocol        Kind = 11 // the peer broke the protocol
	Corrupt         Kind = 12 // a digest, check, root or length did not match
	QuotaExceeded   Kind = 13 // more bytes than a descriptor's quota
	SourceChanged   Kind = 14 // the source was written to or truncated meanwhile
	NoSpace         Kind = 15 // disk, disk quota or buffer full
	IO              Kind = 16 // the operating system failed to read, write or sync
	Lost            Kind = 17 // the connection went away
	DeadPeer        Kind = 18 // the peer stopped answering
	Stale           Kind = 19 // from an earlier life of a session, file or attempt
	WrongBackend    Kind = 20 // the call reached another process than its session
	Draining        Kind = 21 // the node is going away; try again elsewhere or later
	Overloaded      Kind = 22 // a limit is reached; try again later
	NotStarted      Kind = 23 // nobody started the side effect
	TooLong         Kind = 24 // a name, text or message over its limit
)

var kindNames = map[Kind]string{
	Internal: "internal", Invalid: "invalid argument", Canceled: "cancelled", Deadline: "deadline exceeded",
	NotFound: "not found", Exists: "already exists", Permission: "permission denied",
	Unauthenticated: "not authenticated", Unsupported: "not supported", Refused: "refused",
	Protocol: "protocol violation", Corrupt: "corrupt data", QuotaExceeded: "quota exceeded",
	SourceChanged: "source changed", NoSpace: "no space", IO: "input/output error", Lost: "connection lost",
	DeadPeer: "peer not answering", Stale: "stale", WrongBackend: "wrong backend", Draining: "draining",
	Overloaded: "overloaded", NotStarted: "not started", TooLong: "too long",
}

// Known reports whether this version knows the kind.
func (k Kind) Known() bool { return kindNames[k] != "" }

func (k Kind) String() string {
	if s := kindNames[k]; s != "" {
		return s
	}
	return "kind " + strconv.Itoa(int(k))
}

// Kinds lists all known kinds in order of their numbers.
func Kinds() []Kind {
	ks := make([]Kind, 0, len(kindNames))
	for k := Internal; k <= TooLong; k++ {
		ks = append(ks, k)
	}
	return ks
}

// Side says whose failure it was, as far as this end can know.
type Side uint8

const (
	Here     Side = iota // it failed at this end
	Peer                 // the peer said so
	Inferred             // the peer said nothing; this end concluded it
)

func (s Side) String() string { return [...]string{"here", "peer", "inferred"}[min(s, Inferred)] }

// Error is a failure of one operation. Use errors.As to get at it, and KindOf
// to ask for the kind; never compare texts.
type Error struct {
	Op      string // what was being done, as "write block"
	Kind    Kind
	Side    Side
	Subject string // on what: a file name, a call, a peer; may be empty
	Err     error  // the cause; may be nil
	Session bool   // true: the session is over; false: only this operation is
	Advice  string // what to change, in words of the API that was called; stays at this end
}

func (e *Error) Error() string {
	s := e.line(e.Subject, error.Error)
	if e.Advice != "" {
		s += "; " + e.Advice
	}
	return s
}

// line is the message with a subject, with the cause as text says it, and
// without advice.
func (e *Error) line(subject string, text func(error) string) string {
	var b strings.Builder
	b.WriteString(e.Op)
	if subject != "" {
		b.WriteString(" " + quoted(subject))
	}
	if e.Side == Peer {
		b.WriteString(": peer reports")
	}
	if inner, ok := e.Err.(*Error); !ok || inner.Kind != e.Kind { // otherwise the cause says it
		b.WriteString(": " + e.Kind.String())
	}
	if e.Err == nil {
		return b.String()
	}
	if s := text(e.Err); s != "" && s != e.Kind.String() { // as the system says some
		b.WriteString(": " + s)
	}
	return b.String()
}

// quoted is a subject in quotes; one that has quotes itself, as a kind and a
// name do, in back quotes if it can be.
func quoted(subject string) string {
	unprintable := func(r rune) bool { return !strconv.IsPrint(r) }
	if strings.Contains(subject, `"`) && strconv.CanBackquote(subject) && !strings.ContainsFunc(subject, unprintable) {
		return "`" + subject + "`"
	}
	return strconv.Quote(subject)
}

// Advise is e with its advice set.
func (e *Error) Advise(format string, args ...any) *Error {
	e.Advice = fmt.Sprintf(format, args...)
	return e
}

func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, kind) work: a Kind is itself an error value.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return k.String() }

// New makes an error of this end with a formatted cause. When it travels, the
// peer reads the format and the numbers in it; strings and the like among args
// stay here, unless they are Shown (see Text).
func New(op string, k Kind, format string, args ...any) *Error {
	return &Error{Op: op, Kind: k, Err: say(false, format, args...)}
}

// NewLocal is New for a cause that is nobody else's business, as one that
// tells of a descriptor: when it travels, the peer reads operation and kind.
func NewLocal(op string, k Kind, format string, args ...any) *Error {
	return &Error{Op: op, Kind: k, Err: say(true, format, args...)}
}

// Concluded is New for what the peer did not say and this end concluded.
func Concluded(op string, k Kind, format string, args ...any) *Error {
	return &Error{Op: op, Kind: k, Side: Inferred, Err: say(false, format, args...)}
}

// Wrap gives err an operation and a subject, and a kind derived from it. An
// *Error keeps its kind and side. Wrap(nil) is nil.
func Wrap(op, subject string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		if e.Op == op && (subject == "" || e.Subject == subject) {
			return err
		}
		return &Error{Op: op, Kind: e.Kind, Side: e.Side, Subject: subject, Err: err, Session: e.Session}
	}
	return &Error{Op: op, Kind: KindOf(err), Subject: subject, Err: err}
}

// KindOf is the kind of err: its own if it is an *Error, otherwise derived
// from what the standard library and the operating system report.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	for _, m := range derived {
		if errors.Is(err, m.err) {
			return m.kind
		}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return IO
	}
	return Internal
}

var derived = []struct {
	err  error
	kind Kind
}{
	{context.Canceled, Canceled}, {context.DeadlineExceeded, Deadline},
	{syscall.ENOSPC, NoSpace}, {syscall.EDQUOT, NoSpace}, {syscall.EFBIG, NoSpace},
	{syscall.EMFILE, Overloaded}, {syscall.ENFILE, Overloaded},
	{syscall.EROFS, IO}, {syscall.ESTALE, Stale}, // EROFS: what becomes of a disk with errors
	{syscall.ENOTSUP, Unsupported}, {syscall.ENOSYS, Unsupported},
	{syscall.ECONNRESET, Lost}, {syscall.EPIPE, Lost}, {syscall.ECONNREFUSED, Lost},
	{fs.ErrNotExist, NotFound}, {fs.ErrExist, Exists}, {fs.ErrPermission, Permission},
	{fs.ErrInvalid, Invalid}, {fs.ErrClosed, Canceled},
}

// Plain is the message of err without advice. That names fields and functions, of
// which neither a peer nor the user of a command knows anything.
func Plain(err error) string {
	s := err.Error()
	for _, advice := range advices(err) {
		s = strings.ReplaceAll(s, "; "+advice, "")
	}
	return s
}

// Advice is what err and all its causes advise, in one line; "" if none does.
func Advice(err error) string {
	var all []string
	for _, advice := range advices(err) {
		if !slices.Contains(all, advice) {
			all = append(all, advice)
		}
	}
	return strings.Join(all, "; ")
}

// advices are those of err and of all its causes.
func advices(err error) (all []string) {
	if e, ok := err.(*Error); ok && e.Advice != "" {
		all = append(all, e.Advice)
	}
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		if cause := u.Unwrap(); cause != nil {
			all = append(all, advices(cause)...)
		}
	case interface{ Unwrap() []error }:
		for _, cause := range u.Unwrap() {
			all = append(all, advices(cause)...)
		}
	}
	return all
}

// FromPeer is the error a peer reported; of text, at most MaxText bytes count.
func FromPeer(op string, k Kind, text string) *Error {
	return &Error{Op: op, Kind: k, Side: Peer, Err: told(bounded(text))}
}
