package httpd

import (
	"errors"
	"io"
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

// limited is an error of setting a deadline. What cannot have one is no network.
func limited(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// timely is a body that has to come in time. When it has, there is no deadline any more: the one
// of HTTP/1 would end the request, since its end is listened for.
type timely struct {
	io.ReadCloser
	control *http.ResponseController
}

// newTimely sets the deadline, if there is a body.
func newTimely(w http.ResponseWriter, r *http.Request, d time.Duration) io.ReadCloser {
	if r.ContentLength == 0 {
		return r.Body
	}
	t := &timely{r.Body, http.NewResponseController(w)}
	_ = t.control.SetReadDeadline(time.Now().Add(d)) // what cannot have one is no network
	return t
}

func (t *timely) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = t.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
