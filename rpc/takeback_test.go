package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pannier/pannier/rpc/internal/storepb"
)

// TestCallsTakenBack: a client may cancel many calls, but not without end; others
// are served all the while.
func TestCallsTakenBack(t *testing.T) {
	p, ctx := start(t, "tcp", setup{}), within(t)
	p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) { return &storepb.Receipt{}, nil }
	conn, err := net.Dial("tcp", p.address[len("tcp://"):])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", storepb.Store_Call_FullMethodName}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true}); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan struct{})
	pong := make(chan struct{})
	var once sync.Once
	go func() {
		defer close(ended)
		f := http2.NewFramer(io.Discard, conn)
		for {
			switch frame, err := f.ReadFrame(); {
			case err != nil:
				return
			case frame.Header().Type == http2.FramePing && frame.Header().Flags.Has(http2.FlagPingAck):
				once.Do(func() { close(pong) })
			}
		}
	}()
	id := uint32(1)
	takeBack := func(n int) error {
		var b bytes.Buffer
		f := http2.NewFramer(&b, nil)
		for range n {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}) // into memory
			_ = f.WriteRSTStream(id, http2.ErrCodeCancel)
			id += 2
		}
		_, err := conn.Write(b.Bytes())
		return err
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := http2.NewFramer(conn, nil).WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(takeBack(9000), http2.NewFramer(conn, nil).WritePing(false, [8]byte{})); err != nil {
		t.Fatal(err)
	}
	select {
	case <-pong:
	case <-ended:
		t.Fatal("cut off after 9,000 calls taken back")
	case <-ctx.Done():
		t.Fatal("no answer to a PING")
	}
	for open := true; open; {
		_ = takeBack(1000) // fails once the server has closed
		select {
		case <-ended:
			open = false
		case <-ctx.Done():
			t.Fatalf("%d calls taken back and not cut off", id/2)
		case <-time.After(time.Millisecond):
		}
	}
	if _, err := p.stub.Call(ctx, &storepb.Item{}); err != nil {
		t.Errorf("another client: %v", err)
	}
}
