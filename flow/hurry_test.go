package flow

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
)

// calmLink dials connections that count how often they are hurried.
type calmLink struct {
	*flowtest.Link
	hurried *atomic.Int32
}

type calmConn struct {
	net.Conn
	hurried *atomic.Int32
}

func (l calmLink) Dial(ctx context.Context) (net.Conn, error) {
	c, err := l.Link.Dial(ctx)
	return calmConn{c, l.hurried}, err
}

func (c calmConn) ReadRest(p []byte) (int, error) { return c.Read(p) }
func (c calmConn) Hurry()                         { c.hurried.Add(1) }

// TestHurry: however long this end waits for its peer, the peer hears from it what has come while it waits for the rest.
func TestHurry(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{6 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			l := flowtest.NewLink(flowtest.LinkConfig{RTT: time.Millisecond})
			var hurried atomic.Int32
			_, _, stop := joinedBy(t, l, calmLink{l, &hurried}, Config{KeepaliveIdle: wait, KeepaliveTimeout: wait})
			defer stop()
			time.Sleep(10*time.Second + time.Millisecond)
			if n := hurried.Load(); n != 10 {
				t.Errorf("with %v, hurried %d times in 10 s", wait, n)
			}
		})
	}
}
