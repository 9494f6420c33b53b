package flow

import (
	"io"
	"testing"

	"github.com/pannier/pannier/flow/wire"
)

// BenchmarkBytes moves bytes of either class over a byte stream: what gRPC does
// where a carrier has a single pipe, and a live pipe.
func BenchmarkBytes(b *testing.B) {
	for name, class := range map[string]wire.Class{"interactive": wire.ClassInteractive, "relay": wire.ClassRelay} {
		b.Run(name, func(b *testing.B) {
			near, far, _, _ := pair(b, Config{}, true)
			from, to := bytePair(b, near, far, class)
			data := make([]byte, 64<<20)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				done := make(chan error, 1)
				go func() {
					_, err := io.CopyN(io.Discard, to, int64(len(data)))
					done <- err
				}()
				if _, err := from.Write(data); err != nil {
					b.Fatal(err)
				}
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			from.Close()
			to.Close()
		})
	}
}
