package ftpd

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/pannier/pannier/spec/fault"
)

// reply is what a client is answered. Of several lines the first and the last have the code.
type reply struct {
	code  int
	lines []string
}

func say(code int, format string, args ...any) reply {
	return reply{code, []string{fmt.Sprintf(format, args...)}}
}

// refuse is say, for functions that have a reply only when something is wrong.
func refuse(code int, format string, args ...any) *reply {
	r := say(code, format, args...)
	return &r
}

// text is the reply as it is sent. What names and errors have in it cannot end a line.
func (r reply) text() string {
	var b strings.Builder
	for i, l := range r.lines {
		switch {
		case i == len(r.lines)-1:
			fmt.Fprintf(&b, "%d ", r.code)
		case i == 0:
			fmt.Fprintf(&b, "%d-", r.code)
		default:
			b.WriteByte(' ')
		}
		b.WriteString(oneLine(l))
		b.WriteString("\r\n")
	}
	return b.String()
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// words are what a foreign client may know of an error: neither paths of the node nor advice.
func words(err error) string { return fault.Text(err) }

// code is the reply's for a fault of the node. 4xx is for what may go well later, without
// anybody changing anything.
func code(kind fault.Kind) int {
	switch kind {
	case fault.Lost, fault.DeadPeer, fault.Deadline, fault.Overloaded, fault.Draining, fault.IO,
		fault.Canceled, fault.Stale, fault.WrongBackend, fault.SourceChanged, fault.NotStarted:
		return 451
	case fault.NoSpace:
		return 452
	case fault.QuotaExceeded:
		return 552
	case fault.TooLong:
		return 553
	case fault.Invalid:
		return 501
	case fault.Unsupported:
		return 504
	}
	return 550
}

// failed is the reply to an error of the node about a name.
func (c *client) failed(verb, name string, err error) reply {
	c.log.Info("a command has failed", "command", verb, "name", name, "error", err)
	return say(code(fault.KindOf(err)), "%s: %s", name, words(err))
}
