package relay

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
)

// TestConnectEarlyUntaken: bytes that come right behind a CONNECT, to a partner that gives no credit for them, keep neither
// the connection nor the hub.
func TestConnectEarlyUntaken(t *testing.T) {
	for _, closed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := join(t, Config{}, allowAll("tcp://10.0.0.5:80"), false)
			defer w.stop()
			w.dest("10.0.0.5:80") // which takes nothing
			w.add("http://127.0.0.1:9000", "")
			filled := make(chan *flow.ByteStream, 1)
			open := w.west.relays["r"].door.open
			w.west.relays["r"].door.open = func(ctx context.Context, o flow.Open) (*flow.ByteStream, error) {
				st, err := open(ctx, o)
				if err == nil { // all its credit is used up
					_ = st.SetWriteDeadline(time.Now().Add(time.Second))
					if _, err := st.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error(err)
					}
					_ = st.SetWriteDeadline(time.Time{})
					filled <- st
				}
				return st, err
			}
			go func() {
				if c, err := w.eastWorld.serve["10.0.0.5:80"].Accept(); err == nil {
					t.Cleanup(func() { c.Close() })
				}
			}()
			client := w.client("127.0.0.1:9000")
			if _, err := io.WriteString(client, "CONNECT 10.0.0.5:80 HTTP/1.1\r\nHost: x\r\n\r\nearly"); err != nil {
				t.Fatal(err)
			}
			st := <-filled
			synctest.Wait()
			over, want := time.Now(), `kind="deadline exceeded"`
			if closed {
				done := make(chan struct{})
				go func() { w.west.Close(); close(done) }()
				select {
				case <-done:
				case <-time.After(time.Minute):
					t.Error("the hub does not close")
					st.Reset(nil)
				}
				if took := time.Since(over); took > time.Second {
					t.Errorf("it has closed after %v", took)
				}
				want = "kind=cancelled"
			} else {
				time.Sleep(2 * replyTime)
				if s := w.west.Stats()[0]; s.Open != 0 || s.Refused != 1 {
					t.Errorf("%+v", s)
					st.Reset(nil)
				}
			}
			if got := w.westAudit.with("not relayed", want); len(got) != 1 {
				t.Errorf("%q", w.westAudit.lines())
			}
		})
	}
}
