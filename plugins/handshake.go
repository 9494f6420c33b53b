package plugins

import (
	"context"
	"errors"
	"io"
	"net"
)

// Unshaken is an error of the beginning of TLS, for drivers that tell a server with which there is none from one
// that cannot be reached just now.
type Unshaken struct{ Err error }

func (h Unshaken) Error() string { return h.Err.Error() }
func (h Unshaken) Unwrap() error { return h.Err }

// Disagreed says whether TLS itself has ended it, at either end, and not the network: it would again. Errors about
// a certificate are among those, and come to be looked at before.
func (h Unshaken) Disagreed() bool {
	if op, ok := errors.AsType[*net.OpError](h.Err); ok {
		return op.Op == "remote error" || op.Op == "local error" // an alert, the server's or this end's
	}
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(h.Err, end) {
			return false
		}
	}
	_, network := errors.AsType[net.Error](h.Err)
	return !network
}

// UnshakenAdvice is what to do about an Unshaken that is Disagreed, and no certificate's.
const UnshakenAdvice = "the server and this end agree on no TLS, of which it has to be 1.2 or 1.3; its log may say more"
