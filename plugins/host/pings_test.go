package host

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/spec/bridgepb"
)

// heard is a connection that hands on a copy of what is read from it.
type heard struct {
	net.Conn
	to io.Writer
}

func (h heard) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	_, _ = h.to.Write(p[:n])
	return n, err
}

// TestNoPings: neither end of a connection without TLS asks the other how much is of use on the way.
func TestNoPings(t *testing.T) {
	var pings, data atomic.Int32
	listen := func(c net.Conn, skip int64) net.Conn {
		r, w := io.Pipe()
		t.Cleanup(func() { _ = w.Close() })
		go func() {
			_, _ = io.CopyN(io.Discard, r, skip)
			for f := http2.NewFramer(nil, r); ; {
				switch got, err := f.ReadFrame(); got.(type) {
				case *http2.PingFrame:
					pings.Add(1)
				case *http2.DataFrame:
					data.Add(1)
				default:
					if err != nil {
						_, _ = io.Copy(io.Discard, r)
						return
					}
				}
			}
		}()
		return heard{c, w}
	}
	a, b := net.Pipe()
	service := plugins.NewService(dir.Driver{}, nil)
	server := grpc.NewServer(service.Options()...)
	bridgepb.RegisterBridgeServer(server, service)
	one := &single{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	one.conn <- listen(b, int64(len(http2.ClientPreface)))
	go func() { _ = server.Serve(one) }()
	defer server.Stop()
	cc, err := dialOver(listen(a, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	for range 20 {
		if _, err := bridgepb.NewBridgeClient(cc).Describe(context.Background(), &bridgepb.DescribeRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if pings.Load() > 0 || data.Load() < 39 { // the last may not be counted yet
		t.Errorf("%d messages, and %d pings", data.Load(), pings.Load())
	}
}
