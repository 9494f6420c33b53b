package s3

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// transport carries requests, and holds every answer to the same rules: the server is not
// silent for long, an answer that is no file is small and whole within the limit, a
// redirect is not followed, an error is one whatever its status.
type transport struct {
	http  *http.Transport
	limit time.Duration
	clock atomic.Int64 // what the server's clock is ahead by, nanoseconds, of its last answer
}

const (
	maxAnswer = 8 << 20   // bytes of an answer that is no file: 1000 entries with long names have 4 MiB
	minPace   = 1 << 10   // bytes of a file that have to come within the limit
	maxHeader = 256 << 10 // bytes
)

func newTransport(c *config) *transport {
	return &transport{limit: c.timeout, http: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: c.timeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:        security(c.roots, c.pins),
		TLSHandshakeTimeout:    c.timeout,
		MaxIdleConnsPerHost:    32,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
		WriteBufferSize:        64 << 10,
	}}
}

// How an answer is read, in the context of its request.
type answerKey struct{}

type answer int

const (
	plain  answer = iota // whole within the limit
	slowly               // the server may work on it, as long as it gives a sign
	asFile               // the caller reads it
)

func expect(ctx context.Context, a answer) context.Context {
	return context.WithValue(ctx, answerKey{}, a)
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if p, ok := req.Context().Value(pagesKey{}).(*pages); ok {
		if err := p.next(req); err != nil {
			return nil, err
		}
	}
	how, _ := req.Context().Value(answerKey{}).(answer)
	ctx, end := context.WithCancelCause(req.Context())
	w := newWatch(t.limit, end)
	mine := req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		mine.Body = sending{req.Body, w}
	}
	failed := func(err error) (*http.Response, error) {
		w.pause()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		end(context.Canceled)
		return nil, err
	}
	var shaken atomic.Pointer[error]
	trace := httptrace.ClientTrace{TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
		if err != nil {
			shaken.Store(&err)
		}
	}}
	resp, err := t.http.RoundTrip(mine.WithContext(httptrace.WithClientTrace(mine.Context(), &trace)))
	if err != nil {
		if of := shaken.Load(); of != nil && errors.Is(err, *of) {
			err = plugins.Unshaken{Err: err}
		}
		return failed(err)
	}
	resp.Header.Del("Set-Cookie")
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		t.clock.Store(int64(time.Until(at)))
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		_ = resp.Body.Close()
		return failed(redirected(resp))
	}
	if how == asFile && resp.StatusCode < 300 {
		w.answered(minPace)
		w.pause()
		resp.Body = &receiving{resp.Body, ctx, end, w}
		return resp, nil
	}
	w.answered(map[bool]int64{true: 1, false: maxAnswer + 1}[how == slowly])
	body, err := io.ReadAll(&counted{io.LimitReader(resp.Body, maxAnswer+1), w})
	_ = resp.Body.Close()
	if err != nil {
		return failed(err)
	}
	if len(body) > maxAnswer {
		return failed(fault.Concluded("read the answer", fault.Protocol, "it has more than %d bytes", maxAnswer))
	}
	w.pause()
	end(context.Canceled)
	if resp.StatusCode < 300 && isError(body) {
		resp.StatusCode, resp.Status = http.StatusBadRequest, "400 error with status 200"
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// counted tells a watch of what comes.
type counted struct {
	io.Reader
	watch *watch
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.watch.moved(n)
	return n, err
}

// isError is whether an answer is S3's document of an error.
func isError(body []byte) bool {
	d := xml.NewDecoder(bytes.NewReader(body))
	for {
		tok, err := d.Token()
		if err != nil {
			return false
		}
		if e, ok := tok.(xml.StartElement); ok {
			return e.Name.Local == "Error"
		}
	}
}

// redirected is the error of a redirect, which is not followed: what would be sent there
// is signed, and of the operator's choice is only the first host.
func redirected(resp *http.Response) error {
	to := resp.Header.Get("Location")
	if region := resp.Header.Get("X-Amz-Bucket-Region"); region != "" {
		to += " (region " + region + ")"
	}
	return fault.Concluded("follow the server", fault.Refused, "it redirects, with %s, to %s", fault.Shown(resp.Status), fault.Shown(to)).
		Advise("if that is the bucket's place, make it the host, and the region, of the endpoint; it is not followed")
}
