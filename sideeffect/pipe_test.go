package sideeffect

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

// conduits is a connected pair.
func conduits(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(t.TempDir(), "s")})
	noError(t, err)
	defer l.Close()
	a, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	noError(t, err)
	b, err = l.AcceptUnix()
	noError(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

var unlimited = PipePlan{QuotaOut: NoQuota, QuotaIn: NoQuota}

// Each direction ends by itself: an answer can follow the end of the question.
func TestPipeHalfClose(t *testing.T) {
	t.Parallel()
	conn, peer := conduits(t)
	question, answer := content(300_000), content(200_000)
	var got bytes.Buffer
	asked := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(peer) // sees the end of the question
		asked <- b
		peer.Write(answer)
		peer.CloseWrite()
	}()
	o, err := PipeAll(context.Background(), conn, Duplex(bytes.NewReader(question), &got), unlimited)
	noError(t, err)
	if !bytes.Equal(<-asked, question) || !bytes.Equal(got.Bytes(), answer) {
		t.Error("bytes differ")
	}
	if o.Out != int64(len(question)) || o.In != int64(len(answer)) {
		t.Errorf("%+v", o)
	}
}

// A connection at each end: the end is passed on as a half-close.
func TestPipeBetweenConnections(t *testing.T) {
	t.Parallel()
	conn, peer := conduits(t)
	local, user := conduits(t)
	done := make(chan error, 1)
	go func() {
		_, err := PipeAll(context.Background(), conn, Duplex(local, local), unlimited)
		done <- err
	}()
	peer.Write([]byte("hello"))
	peer.CloseWrite()
	if b, _ := io.ReadAll(user); string(b) != "hello" {
		t.Errorf("user got %q", b)
	}
	user.Write([]byte("bye"))
	user.CloseWrite()
	if b, _ := io.ReadAll(peer); string(b) != "bye" {
		t.Errorf("peer got %q", b)
	}
	noError(t, <-done)
}

func TestPipeQuota(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		policy OverQuota
		size   int
		want   int
		over   bool
	}{{Fail, 99, 99, false}, {Fail, 100, 100, false}, {Fail, 101, 0, true}, {Cut, 101, 100, true}, {Cut, 100_000, 100, true}} {
		conn, peer := conduits(t)
		peer.CloseWrite()
		o, err := PipeAll(context.Background(), conn, Duplex(bytes.NewReader(content(tc.size)), io.Discard),
			PipePlan{QuotaOut: 100, QuotaIn: NoQuota, OverQuota: tc.policy})
		if tc.policy == Fail && tc.over {
			wantKind(t, err, fault.QuotaExceeded)
		} else {
			noError(t, err)
		}
		if o.QuotaExceeded != tc.over {
			t.Errorf("%+v: %+v", tc, o)
		}
		if b, _ := io.ReadAll(peer); len(b) != tc.want {
			t.Errorf("%+v: %d bytes arrived", tc, len(b))
		}
	}
}

func TestPipeCanceled(t *testing.T) {
	t.Parallel()
	conn, _ := conduits(t)
	r, w, err := os.Pipe()
	noError(t, err)
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := PipeAll(ctx, conn, Duplex(r, w), unlimited)
		done <- err
	}()
	cancel()
	wantKind(t, <-done, fault.Canceled)
}

func TestPipeNeedsBothDirections(t *testing.T) {
	t.Parallel()
	for _, id := range []Identity{Memory(nil), Reader(strings.NewReader(""), 0), Writer(io.Discard), Duplex(nil, io.Discard), FD(nil)} {
		conn, _ := conduits(t)
		_, err := PipeAll(context.Background(), conn, id, unlimited)
		wantKind(t, err, fault.Invalid)
	}
}
