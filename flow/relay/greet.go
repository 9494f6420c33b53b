package relay

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// greeter is the rest of a conversation in which a client has said where it wants
// to go.
type greeter interface {
	// reply tells the client what became of it: err is why not. It returns err, or
	// why the client could not be told.
	reply(ctx context.Context, c net.Conn, st *flow.ByteStream, err error) error
}

// until has a client's greeting end with ctx, and lifts the bound when called.
func until(ctx context.Context, c net.Conn) func() {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	return func() { stop() }
}

// notGreeted is why a client has not said where it wants to go: it was too slow, or has gone away.
func notGreeted(op string, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fault.New(op, fault.Deadline, "the client has not said in time where to")
	}
	return fault.New(op, fault.Lost, "the client has gone before it has said where to: %w", err)
}

// Bytes of SOCKS version 5, RFC 1928 and 1929.
const (
	socksVersion = 5
	socksNoAuth  = 0
	socksNone    = 0xff
	socksConnect = 1
	socksIPv4    = 1
	socksName    = 3
	socksIPv6    = 4
)

// Replies of SOCKS5.
const (
	socksDone       = 0
	socksFailed     = 1
	socksForbidden  = 2
	socksNoHost     = 4
	socksRefused    = 5
	socksNoTime     = 6
	socksNoCommand  = 7
	socksNoAddress  = 8
	socksReplyBytes = 10
)

type socksClient struct{}

// greetSOCKS reads a SOCKS5 client's wish. Only CONNECT without authentication is
// spoken: who may come is a matter of where the relay listens, and of From.
func greetSOCKS(ctx context.Context, c net.Conn) (to Endpoint, g greeter, err error) {
	defer until(ctx, c)()
	b := make([]byte, 2+255)
	if _, err = io.ReadFull(c, b[:2]); err == nil {
		_, err = io.ReadFull(c, b[2:2+int(b[1])])
	}
	if err != nil {
		return to, nil, notGreeted("read SOCKS greeting", err)
	}
	method := byte(socksNone)
	for _, m := range b[2 : 2+int(b[1])] {
		if m == socksNoAuth {
			method = socksNoAuth
		}
	}
	if b[0] != socksVersion {
		return to, nil, fault.New("read SOCKS greeting", fault.Unsupported, "version %d; only 5 is spoken", b[0])
	}
	if _, err = c.Write([]byte{socksVersion, method}); err != nil || method == socksNone {
		return to, nil, fault.New("read SOCKS greeting", fault.Unsupported, "the client wants to authenticate, which is not spoken")
	}
	return readSOCKS(c, b)
}

func readSOCKS(c net.Conn, b []byte) (to Endpoint, g greeter, err error) {
	deny := func(code byte, kind fault.Kind, text string) (Endpoint, greeter, error) {
		_, _ = c.Write(socksReply(code))
		settle(c)
		return Endpoint{}, nil, fault.New("read SOCKS request", kind, "%s", fault.Shown(text))
	}
	if _, err = io.ReadFull(c, b[:5]); err != nil {
		return to, nil, notGreeted("read SOCKS request", err)
	}
	n := map[byte]int{socksIPv4: 4, socksIPv6: 16, socksName: 1 + int(b[4])}[b[3]]
	switch {
	case b[0] != socksVersion || n == 0:
		return deny(socksNoAddress, fault.Protocol, "an unknown sort of address")
	case b[1] != socksConnect:
		return deny(socksNoCommand, fault.Unsupported, "only CONNECT is spoken")
	}
	rest := make([]byte, n+2) // address and port; the first byte has been read
	rest[0] = b[4]
	if _, err = io.ReadFull(c, rest[1:]); err != nil {
		return to, nil, notGreeted("read SOCKS request", err)
	}
	host := string(rest[1:n])
	if b[3] != socksName {
		a, _ := netip.AddrFromSlice(rest[:n])
		host = a.String()
	}
	to, err = tcpTo(host, strconv.Itoa(int(rest[n])<<8|int(rest[n+1])))
	if err != nil {
		return deny(socksNoAddress, fault.Invalid, strconv.Quote(host)+" is no destination")
	}
	return to, socksClient{}, nil
}

func tcpTo(host, port string) (Endpoint, error) {
	return ParseTo("tcp://" + net.JoinHostPort(host, port))
}

func socksReply(code byte) []byte {
	b := make([]byte, socksReplyBytes) // bound address 0.0.0.0:0: nobody uses it after CONNECT
	b[0], b[1], b[3] = socksVersion, code, socksIPv4
	return b
}

func (socksClient) reply(_ context.Context, c net.Conn, _ *flow.ByteStream, err error) error {
	_ = c.SetWriteDeadline(time.Now().Add(replyTime))
	defer func() { _ = c.SetWriteDeadline(time.Time{}) }()
	if err == nil {
		_, err = c.Write(socksReply(socksDone))
		return err
	}
	code := byte(socksFailed)
	switch fault.KindOf(err) {
	case fault.Permission:
		code = socksForbidden
	case fault.NotFound:
		code = socksNoHost
	case fault.Refused:
		code = socksRefused
	case fault.Deadline:
		code = socksNoTime
	}
	_, _ = c.Write(socksReply(code))
	settle(c)
	return err
}

// replyTime bounds how long a client may take to be told.
const replyTime = 2 * time.Second

// settle sends the end behind a refusal and waits for the client's, so that the
// reset that follows does not overtake the reason.
func settle(c net.Conn) {
	if h, ok := c.(halfCloser); ok {
		_ = h.CloseWrite()
	}
	_ = c.SetReadDeadline(time.Now().Add(replyTime))
	_, _ = io.CopyN(io.Discard, c, 64<<10)
}

// maxRequest is the most bytes of a CONNECT request.
const maxRequest = 16 << 10

type httpClient struct{ early []byte } // sent before the answer

// greetHTTP reads a CONNECT request.
func greetHTTP(ctx context.Context, c net.Conn) (to Endpoint, g greeter, err error) {
	defer until(ctx, c)()
	said := &heard{Reader: c}
	rest := &io.LimitedReader{R: said, N: maxRequest}
	in := bufio.NewReader(rest)
	req, err := http.ReadRequest(in)
	if err != nil {
		switch {
		case rest.N == 0:
			err = fault.New("read CONNECT", fault.TooLong, "a request has at most %d bytes", maxRequest)
		case said.err != nil:
			return to, nil, notGreeted("read CONNECT", said.err)
		default:
			err = fault.New("read CONNECT", fault.Protocol, "%w", err)
		}
		return to, nil, badRequest(c, err)
	}
	if req.Method == http.MethodConnect {
		if host, port, e := net.SplitHostPort(req.Host); e == nil {
			to, err = tcpTo(host, port)
		} else {
			err = e
		}
	}
	if req.Method != http.MethodConnect || err != nil {
		_, _ = io.WriteString(c, onlyConnect)
		settle(c)
		return Endpoint{}, nil, fault.New("read CONNECT", fault.Unsupported, "only CONNECT HOST:PORT is spoken")
	}
	early, _ := in.Peek(in.Buffered())
	return to, &httpClient{early: append([]byte(nil), early...)}, nil
}

// heard is a client, and why nothing more is heard of it.
type heard struct {
	io.Reader
	err error
}

func (h *heard) Read(p []byte) (n int, err error) {
	n, err = h.Reader.Read(p)
	h.err = err
	return n, err
}

// badRequest tells a client that its request is none, and why.
func badRequest(c net.Conn, err error) error {
	status := http.StatusBadRequest
	if fault.KindOf(err) == fault.TooLong {
		status = http.StatusRequestHeaderFieldsTooLarge
	}
	_ = c.SetWriteDeadline(time.Now().Add(replyTime))
	_, _ = io.WriteString(c, httpStatus(status))
	settle(c)
	return err
}

// onlyConnect is the answer to clients that speak HTTP of another sort, as they do to a proxy for http:// without TLS.
var onlyConnect = func() string {
	const body = "This proxy takes CONNECT HOST:PORT only. Use it for https://, or have the client make a tunnel for http://, too, as curl --proxytunnel does.\n"
	return "HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\nConnection: close\r\n\r\n" + body
}()

func httpStatus(code int) string {
	return "HTTP/1.1 " + strconv.Itoa(code) + " " + http.StatusText(code) + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
}

// sendEarly hands on what a client has sent before the answer. The connection is not in the books yet, where others
// would end it: a partner that takes nothing holds it up for as long as this lets it.
func sendEarly(ctx context.Context, st *flow.ByteStream, early []byte) error {
	_ = st.SetWriteDeadline(time.Now().Add(replyTime))
	stop := context.AfterFunc(ctx, func() { st.Reset(fault.Wrap("relay", "", context.Cause(ctx))) })
	_, err := st.Write(early)
	_ = st.SetWriteDeadline(time.Time{})
	switch {
	case !stop():
		return context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault.New("relay", fault.Deadline, "the partner has not taken in time what the client sent behind its request")
	}
	return err
}

func (g *httpClient) reply(ctx context.Context, c net.Conn, st *flow.ByteStream, err error) error {
	_ = c.SetWriteDeadline(time.Now().Add(replyTime))
	defer func() { _ = c.SetWriteDeadline(time.Time{}) }()
	if err == nil {
		if _, err = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n"); err == nil && len(g.early) > 0 {
			err = sendEarly(ctx, st, g.early)
		}
		return err
	}
	code := http.StatusBadGateway
	switch fault.KindOf(err) {
	case fault.Permission:
		code = http.StatusForbidden
	case fault.Deadline:
		code = http.StatusGatewayTimeout
	case fault.Overloaded:
		code = http.StatusServiceUnavailable
	}
	_, _ = io.WriteString(c, httpStatus(code))
	settle(c)
	return err
}
