package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
)

// MaxText is the most bytes of text an error carries over the wire.
const MaxText = 512

// Text is what of err travels to the peer, at most MaxText bytes. It says
// nothing that only this end should know: of each *Error in the chain its
// operation, its kind, and the words of New without the strings among their
// arguments; of the operating system's errors what their number means, without
// paths; of the standard library's fixed errors their text. Subjects, advice,
// the words of NewLocal, and whatever else is in the chain stay here.
func Text(err error) string {
	s := public(err)
	if s == "" {
		s = KindOf(err).String()
	}
	return bounded(s)
}

// bounded is s as valid text of at most MaxText bytes.
func bounded(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > MaxText {
		s = strings.ToValidUTF8(s[:MaxText-3], "") + "..."
	}
	return s
}

// public is Text without its bounds; "" when nothing may be said.
func public(err error) string {
	switch e := err.(type) {
	case nil:
		return ""
	case *Error:
		return e.line("", public)
	case *words:
		return e.public()
	case told:
		return string(e)
	case Kind, syscall.Errno:
		return e.Error()
	case interface{ Unwrap() []error }:
		var all []string
		for _, inner := range e.Unwrap() {
			if s := public(inner); s != "" {
				all = append(all, s)
			}
		}
		return strings.Join(all, "; ")
	}
	for _, known := range fixed {
		if err == known {
			return err.Error()
		}
	}
	return public(errors.Unwrap(err))
}

// fixed are errors of the standard library whose text is always the same.
var fixed = []error{
	context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, io.ErrShortWrite, io.ErrClosedPipe,
	net.ErrClosed, os.ErrDeadlineExceeded, os.ErrNotExist, os.ErrExist, os.ErrPermission, os.ErrInvalid, os.ErrClosed,
}

// words is a cause in words: the format and what goes into it are kept apart, so
// that the peer can be told the one without the other.
type words struct {
	said   error // as formatted for this end
	format string
	args   []any
	stays  bool // nothing but the errors among args travels
}

func say(stays bool, format string, args ...any) *words {
	return &words{said: fmt.Errorf(format, args...), format: format, args: args, stays: stays}
}

func (w *words) Error() string { return w.said.Error() }
func (w *words) Unwrap() error { return w.said }

func (w *words) public() string {
	if w.stays {
		return public(errors.Unwrap(w.said)) // of %w
	}
	args := make([]any, len(w.args))
	for i, a := range w.args {
		args[i] = shown(a)
	}
	return fmt.Errorf(w.format, args...).Error()
}

// Shown is a string that the peer may read when it is among the arguments of
// New: a name that the peer itself has given, for example.
type Shown string

// shown is what the peer sees of an argument: numbers, flags, strings that are
// Shown, and errors as Text says.
func shown(a any) any {
	switch v := a.(type) {
	case Shown:
		return v
	case error:
		if s := public(v); s != "" {
			return told(s)
		}
		return hidden{}
	}
	if k := reflect.ValueOf(a).Kind(); k >= reflect.Bool && k <= reflect.Complex128 && k != reflect.Uintptr {
		return a
	}
	return hidden{}
}

// hidden stands for what stays here, whatever the verb.
type hidden struct{}

func (hidden) Error() string { return "..." }

// Format implements fmt.Formatter. In quotes it would pass for a name.
func (hidden) Format(s fmt.State, _ rune) { fmt.Fprint(s, "...") }

// told is text that the peer said, or may read.
type told string

func (t told) Error() string { return string(t) }
