package command

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// A suggested is an error and what its reader can do about it, in words of the
// command.
type suggested struct {
	error
	text string
}

func (s suggested) Unwrap() error { return s.error }

// Suggest adds to err what to do about it, in one or more lines. Run prints it
// below the error. Suggest(nil) is nil.
func Suggest(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return suggested{err, fmt.Sprintf(format, args...)}
}

// Suggestions are those of err and of all its causes, the causes' first; "" if there
// are none.
func Suggestions(err error) string {
	var lines []string
	for err != nil {
		var s suggested
		if !errors.As(err, &s) {
			break
		}
		lines = append([]string{s.text}, lines...)
		err = s.error
	}
	return strings.Join(lines, "\n")
}

// Cause is what went wrong, for people: without advice about the fields of an
// API, and without anything that a terminal would obey, whatever a peer
// has put into it.
func Cause(err error) string { return Printable(fault.Plain(err)) }

// writeError prints cause and suggestions.
func writeError(w io.Writer, name string, err error) {
	text := name + ": " + Cause(err)
	if more := Suggestions(err); more != "" {
		text += "\n" + Printable(more)
	}
	fmt.Fprintln(w, strings.ReplaceAll(text, "\n", "\n  "))
}

// Printable is text with everything but printable characters and line ends
// written as escapes.
func Printable(text string) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	if !strings.ContainsFunc(text, obeyed) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if obeyed(r) {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func obeyed(r rune) bool { return r != '\n' && !strconv.IsPrint(r) }
