package flow

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
)

// TestReceivedIsConsumed: what waits in the peer's memory is not called
// received, also not after a lost connection.
func TestReceivedIsConsumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{BlockSize: 64 * KiB, Window: 256 * KiB, MaxWindow: 256 * KiB})
		defer stop()
		opened := make(chan *BlockStream, 1)
		go func() {
			in, _ := far.AcceptStream(t.Context())
			b, _ := in.AcceptBlocks(AcceptBlocks{})
			opened <- b
		}()
		source, err := near.OpenBlocks(t.Context(), Open{Kind: "k", Send: true})
		if err != nil {
			t.Fatal(err)
		}
		sink := <-opened
		var got []*Block
		for range 4 {
			blk, err := source.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := source.Send(t.Context(), blk, len(blk.Data)); err != nil {
				t.Fatal(err)
			}
			in, err := sink.Recv(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, in)
		}
		got[0].Release()
		settle()
		if n := source.Received(); n != 64*KiB {
			t.Errorf("%d bytes are called received, one block of %d was released", n, 64*KiB)
		}
		l.Cut()
		settle()
		if n := source.Received(); n != 64*KiB {
			t.Errorf("after a cut %d bytes are called received", n)
		}
		for _, b := range got[1:] {
			b.Release()
		}
		settle()
		if n := source.Received(); n != 256*KiB {
			t.Errorf("%d bytes are called received, all were released", n)
		}
	})
}
