package httpd

import (
	"errors"
	"net/http"
	"time"
)

// Within lets write write to a client, which may take so long for it. Afterwards, until more is
// written or the handler has ended, the client may take as long as it likes: it waits for the
// handler, and a deadline that passes meanwhile would end a stream of HTTP/2.
func Within(w http.ResponseWriter, d time.Duration, write func() error) error {
	c := http.NewResponseController(w)
	if err := limited(c.SetWriteDeadline(time.Now().Add(d))); err != nil {
		return err
	}
	if err := write(); err != nil {
		return err
	}
	return Unhurried(w)
}

// Unhurried takes a deadline for the answer back: the handler will be long in making it.
func Unhurried(w http.ResponseWriter) error {
	return limited(http.NewResponseController(w).SetWriteDeadline(time.Time{}))
}

// Patient is a handler that may be long in making its answer; the client has writeTime for each
// piece of it. Handlers that call Within do not need it.
func Patient(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if Unhurried(w) == nil { // or there is no connection any more
			h.ServeHTTP(pieces{w}, r)
		}
	})
}

// pieces are an answer each of whose pieces has its time.
type pieces struct{ http.ResponseWriter }

func (p pieces) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p pieces) Write(b []byte) (n int, err error) {
	err = Within(p.ResponseWriter, writeTime, func() error { n, err = p.ResponseWriter.Write(b); return err })
	return n, err
}

// limited is an error of setting a deadline. What cannot have one is no network.
func limited(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}
