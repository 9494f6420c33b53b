package sftpd

import (
	"errors"
	"io"
	"strings"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// Codes of SSH_FXP_STATUS.
const (
	statusOK          = 0
	statusEOF         = 1
	statusNotFound    = 2
	statusPermission  = 3
	statusFailure     = 4
	statusBadMessage  = 5
	statusUnsupported = 8
)

// codes are of the kinds that version 3 has a code for; of all others it is FAILURE.
var codes = map[fault.Kind]uint32{
	fault.NotFound:        statusNotFound,
	fault.Permission:      statusPermission,
	fault.Unauthenticated: statusPermission,
	fault.Unsupported:     statusUnsupported,
}

// errMalformed is of a request that is cut off.
var errMalformed = errors.New("the request is cut off, or longer than what it says")

// status is the reply that says how a request went: nil is OK, io.EOF the end.
func status(id uint32, err error) message {
	code, text := uint32(statusOK), "done"
	switch {
	case err == nil:
	case err == io.EOF:
		code, text = statusEOF, "end"
	case err == errMalformed:
		code, text = statusBadMessage, err.Error()
	default:
		code, text = statusFailure, words(err)
		if c, ok := codes[fault.KindOf(err)]; ok {
			code = c
		}
	}
	return newMessage(fxStatus, id, 16+len(text)).number(code).text(text).text("en").seal()
}

// words are what a client reads of an error: what may leave this host, with what another
// server said, and whether to try again.
func words(err error) string {
	text := fault.Text(err)
	if n, ok := errors.AsType[plugins.Native](err); ok && !strings.Contains(text, n.Text) {
		text += ": " + string([]rune(n.Text[:min(len(n.Text), fault.MaxText)]))
	}
	switch fault.KindOf(err) {
	case fault.Lost, fault.DeadPeer, fault.Deadline, fault.Overloaded, fault.Draining, fault.IO:
		text += "; try again later"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// unsupported is what cannot be done, with words.
func unsupported(op, format string, args ...any) error {
	return fault.New(op, fault.Unsupported, format, args...)
}
