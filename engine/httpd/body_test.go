package httpd

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/pannier/pannier/engine/access"
)

// held is a body whose client stops when it has sent a part of it, and says so.
type held struct {
	io.Reader
	sent chan struct{}
	stop <-chan struct{}
	done bool
}

func (h *held) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if err != io.EOF {
		return n, err
	}
	if !h.done {
		h.done = true
		h.sent <- struct{}{}
	}
	<-h.stop
	return 0, context.Canceled
}

func (h *held) Close() error { return nil }

// call sends a call of gRPC of the first bytes of a body, and returns when the server has read them, with
// what ends it and returns the answer.
func (s *served) call(t *testing.T, token string, body io.Reader) (end func() http.Header) {
	t.Helper()
	stop, over := make(chan struct{}), make(chan struct{})
	h := &held{Reader: body, sent: make(chan struct{}, 1), stop: stop}
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "POST", "/pannier.admin.v1.Admin/Get", h)
	r.ProtoMajor, r.ProtoMinor, r.ContentLength = 2, 0, -1
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	go func() {
		defer close(over)
		s.http.Handler.ServeHTTP(w, r)
	}()
	select {
	case <-h.sent:
	case <-over:
	}
	return func() http.Header {
		cancel()
		close(stop)
		<-over
		return w.Header()
	}
}

// start is how a message of so many bytes begins, of which so many come.
func start(size, come int) io.Reader {
	return io.MultiReader(bytes.NewReader([]byte{0, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}), strings.NewReader(strings.Repeat("x", come)))
}

// TestSmallPieces: a message that comes byte by byte takes no more memory than it has bytes.
func TestSmallPieces(t *testing.T) {
	s := serve(t)
	g := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return stream.RecvMsg(&emptypb.Empty{}) }))
	defer g.Stop()
	s.cfg.Admin = g
	token := s.token(t, "r", access.Read)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	end := s.call(t, token, iotest.OneByteReader(start(maxBody, 16384)))
	if now := heap(); now > before+64<<20 {
		t.Errorf("16384 bytes take %d MiB", (now-before)>>20)
	}
	end()
}

// TestManyBodies: what one token sends at a time is bounded, what another sends is not by that, and
// what is over is forgotten.
func TestManyBodies(t *testing.T) {
	s := serve(t)
	s.cfg.Admin = http.NotFoundHandler()
	many, other := s.token(t, "many", access.Submit), s.token(t, "other", access.Read)
	for range 2 {
		var ends []func() http.Header
		for range 8 {
			ends = append(ends, s.call(t, many, start(maxBody, maxBody-1)))
		}
		post := func(token string) int {
			r := must(http.NewRequestWithContext(t.Context(), "POST", "https://"+s.address+"/any", strings.NewReader(strings.Repeat("x", maxBody))))
			r.Header.Set("Authorization", "Bearer "+token)
			a, err := s.https.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			a.Body.Close()
			return a.StatusCode
		}
		if got := post(many); got != http.StatusTooManyRequests {
			t.Errorf("one more of the same token: %d", got)
		}
		if got := post(other); got != http.StatusOK {
			t.Errorf("one of another token: %d", got)
		}
		refused := 0
		for _, end := range ends {
			if end().Get("Grpc-Status") == "8" {
				refused++
			}
		}
		if refused != 5 { // of 4 MiB each and 16 KiB three have a place
			t.Errorf("%d of 8 were refused", refused)
		}
	}
	if len(s.bodies.held) != 0 {
		t.Errorf("there is still %v", s.bodies.held)
	}
}

// TestStrangersBodies: a form of somebody who has no token is short, and one connection has few of
// them at a time, which are no more than one client's.
func TestStrangersBodies(t *testing.T) {
	s := serve(t)
	form := func(from string, body io.Reader) (status int) {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/login", body)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.ContentLength, r.RemoteAddr = -1, from
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		return w.Code
	}
	const one, two = "192.0.2.1:1", "192.0.2.1:2"
	if got := form(one, strings.NewReader("token="+strings.Repeat("x", maxForm))); got != http.StatusRequestEntityTooLarge {
		t.Errorf("a long one: %d", got)
	}
	stop := make(chan struct{})
	over := make(chan int, 4)
	for range 4 {
		h := &held{Reader: strings.NewReader("token=" + strings.Repeat("x", maxForm-6)), sent: make(chan struct{}, 1), stop: stop}
		go func() { over <- form(one, h) }()
		<-h.sent
	}
	if got := form(one, strings.NewReader("token=x")); got != http.StatusTooManyRequests {
		t.Errorf("a fifth at a time: %d", got)
	}
	if got := form(two, strings.NewReader("token=x")); got != http.StatusUnauthorized {
		t.Errorf("from another connection: %d", got)
	}
	close(stop)
	for range 4 {
		<-over
	}
	if got := form(one, strings.NewReader("token=x")); got != http.StatusUnauthorized {
		t.Errorf("after them: %d", got)
	}
}
