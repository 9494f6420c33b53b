package icap

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// The client's side of RFC 3507 as far as a verdict needs it: OPTIONS, then one RESPMOD,
// or REQMOD where a service has no other, without a preview. What the server would
// replace the file with is compared with the file, and kept nowhere.

const (
	mostHeader = 64 << 10 // bytes of the headers of an answer, and of those encapsulated
	chunk      = 64 << 10
)

// conn is a connection for one file.
type conn struct {
	net.Conn
	in   *bufio.Reader
	undo func() bool
}

// dial connects; the connection is cut when ctx ends.
func dial(ctx context.Context, address string) (*conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &conn{c, bufio.NewReaderSize(c, 32<<10), context.AfterFunc(ctx, func() { _ = c.Close() })}, nil
}

func (c *conn) close() {
	c.undo()
	_ = c.Conn.Close()
}

// failed is an error of the connection; of a server that stops in the middle it is Lost.
func (c *conn) failed(ctx context.Context, host string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fault.New("scan", fault.Lost, "the server has closed the connection without an answer")
	}
	return fault.Wrap("scan", host, err)
}

// answer is the head of one.
type answer struct {
	code   int
	status string
	header textproto.MIMEHeader
}

// answer reads the head of one, within mostHeader.
func (c *conn) answer() (answer, error) {
	limited := &io.LimitedReader{R: c.in, N: mostHeader}
	r := textproto.NewReader(bufio.NewReaderSize(oneByOne{limited}, 16))
	line, err := r.ReadLine()
	if err != nil {
		return answer{}, over(limited, err)
	}
	proto, rest, _ := strings.Cut(line, " ")
	digits, _, _ := strings.Cut(rest, " ")
	code, err := strconv.Atoi(digits)
	if !strings.HasPrefix(proto, "ICAP/") || err != nil {
		return answer{}, protocol("it answers %q, which is not ICAP", shown(line))
	}
	h, err := r.ReadMIMEHeader()
	if err != nil {
		return answer{}, over(limited, err)
	}
	return answer{code, shown(rest), h}, nil
}

// oneByOne never reads beyond what was asked for, so that nothing of the body is lost in
// a reader of headers.
type oneByOne struct{ r io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

func over(l *io.LimitedReader, err error) error {
	if l.N <= 0 {
		return protocol("its headers have more than %d bytes", mostHeader)
	}
	if _, ok := errors.AsType[textproto.ProtocolError](err); ok {
		return protocol("%v", err)
	}
	return err
}

func protocol(format string, args ...any) error {
	return fault.New("scan", fault.Protocol, format, args...)
}

// shown is what a server says, as a log has it.
func shown(s string) string {
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s[:min(len(s), 200)]), "?")
}

// options asks for the methods of a service. over: the server closes the connection after the answer.
func (c *conn) options(service, host string) (methods string, over bool, err error) {
	if _, err := fmt.Fprintf(c, "OPTIONS %s ICAP/1.0\r\nHost: %s\r\nUser-Agent: pannier\r\nEncapsulated: null-body=0\r\n\r\n", service, host); err != nil {
		return "", false, err
	}
	a, err := c.answer()
	if err != nil {
		return "", false, err
	}
	if a.code != 200 {
		return "", false, a.refusal()
	}
	for _, v := range a.header.Values("Connection") {
		for token := range strings.SplitSeq(v, ",") {
			over = over || strings.EqualFold(strings.TrimSpace(token), "close")
		}
	}
	return a.header.Get("Methods"), over, nil
}

// refusal is what an answer means that is no verdict.
func (a answer) refusal() error {
	kind := fault.Lost // 5xx: it may be better soon
	switch {
	case a.code == 404:
		kind = fault.NotFound
	case a.code/100 == 4 && a.code != 408:
		kind = fault.Unsupported
	}
	return fault.New("scan", kind, "the server answers %s", a.status)
}

// modify sends the file and returns what is wrong with it; "" if nothing is.
func (c *conn) modify(service, host, methods, name string, f *os.File, size int64) (string, error) {
	about := "http://pannier/" + url.PathEscape(name)
	begin := make([]byte, 512)
	n, err := f.ReadAt(begin, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	kind := http.DetectContentType(begin[:n]) // what a filter for texts goes by
	var head, method, encapsulated string
	switch {
	case strings.Contains(methods, "RESPMOD"):
		request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: pannier\r\n\r\n", about)
		head = request + fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", kind, size)
		method, encapsulated = "RESPMOD", fmt.Sprintf("req-hdr=0, res-hdr=%d, res-body=%d", len(request), len(head))
	case strings.Contains(methods, "REQMOD"):
		head = fmt.Sprintf("POST %s HTTP/1.1\r\nHost: pannier\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", about, kind, size)
		method, encapsulated = "REQMOD", fmt.Sprintf("req-hdr=0, req-body=%d", len(head))
	default:
		return "", fault.New("scan", fault.Unsupported, "the service has neither RESPMOD nor REQMOD, but %q", shown(methods))
	}
	head = fmt.Sprintf("%s %s ICAP/1.0\r\nHost: %s\r\nUser-Agent: pannier\r\nAllow: 204\r\nConnection: close\r\nEncapsulated: %s\r\n\r\n%s", method, service, host, encapsulated, head)
	// The server may answer before it has all, and stop reading then.
	own := sha256.New()
	sent := make(chan error, 1)
	go func() { sent <- c.send(head, io.TeeReader(io.LimitReader(f, size), own)) }()
	a, err := c.answer()
	if err != nil {
		_ = c.Conn.Close()
		if sendErr := <-sent; sendErr != nil && !errors.Is(sendErr, net.ErrClosed) && fault.KindOf(sendErr) == fault.SourceChanged {
			err = sendErr
		}
		return "", err
	}
	v, other, err := c.verdict(a)
	if err != nil || v != "" {
		_ = c.Conn.Close()
		<-sent
		return v, err
	}
	// Nothing is wrong with what it has seen: that has to be all of it.
	if err := <-sent; err != nil {
		return "", err
	}
	if other != nil && string(other.Sum(nil)) != string(own.Sum(nil)) {
		return "it would be replaced by something else", nil
	}
	return "", nil
}

// send writes the request.
func (c *conn) send(head string, body io.Reader) error {
	w := bufio.NewWriterSize(c, chunk+64)
	if _, err := w.WriteString(head); err != nil {
		return err
	}
	z := httputil.NewChunkedWriter(w)
	if _, err := io.CopyBuffer(struct{ io.Writer }{z}, struct{ io.Reader }{body}, make([]byte, chunk)); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if _, err := w.WriteString("\r\n"); err != nil {
		return err
	}
	return w.Flush()
}

// found are headers by which servers say what they have found, though none is of the RFC.
var found = []string{"X-Infection-Found", "X-Virus-Id", "X-Violations-Found", "X-Virus-Name"}

// verdict reads an answer: what is wrong, or, if the server gives content back, its
// digest; nil: it leaves the file as it is.
func (c *conn) verdict(a answer) (string, hash.Hash, error) {
	for _, name := range found {
		if v := a.header.Get(name); v != "" {
			return "it has found " + shown(v), nil, nil
		}
	}
	switch a.code {
	case 204:
		return "", nil, nil
	case 200, 201:
	case 403: // of some servers, and of no other meaning
		return "it answers " + a.status, nil, nil
	default:
		return "", nil, a.refusal()
	}
	line, body, err := c.encapsulated(a.header.Get("Encapsulated"))
	if err != nil {
		return "", nil, err
	}
	if code, ok := strings.CutPrefix(line, "HTTP/"); ok {
		if _, code, _ = strings.Cut(code, " "); !strings.HasPrefix(code, "200") {
			return "it would be replaced by an answer " + shown(code), nil, nil
		}
	}
	h := sha256.New()
	if body {
		if _, err := io.Copy(h, httputil.NewChunkedReader(c.in)); err != nil {
			return "", nil, err
		}
	}
	return "", h, nil
}

// encapsulated reads the headers of what the server gives back: its first line, and
// whether a body follows.
func (c *conn) encapsulated(parts string) (first string, body bool, err error) {
	last := 0
	for part := range strings.SplitSeq(parts, ",") {
		name, at, _ := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.Atoi(at)
		if err != nil || n < last || n > mostHeader {
			return "", false, protocol("what it gives back is not described: %q", shown(parts))
		}
		last = n
		body = strings.HasSuffix(name, "-body") && name != "null-body"
	}
	head := make([]byte, last)
	if _, err := io.ReadFull(c.in, head); err != nil {
		return "", false, err
	}
	first, _, _ = strings.Cut(string(head), "\r\n")
	return first, body, nil
}
