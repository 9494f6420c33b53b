package flow

import (
	"testing"
	"testing/synctest"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// TestOneBlock: an error of Recv says whether it is about one block or about the whole.
func TestOneBlock(t *testing.T) {
	for name, tc := range map[string]struct {
		frame func(id uint32) []byte
		one   bool
	}{
		"another digest": {func(id uint32) []byte {
			return block(id, 0, content(testBlock), func(h *wire.BlockHead) { h.Digest++ })
		}, true},
		"no S2": {func(id uint32) []byte {
			return block(id, 0, content(100), func(h *wire.BlockHead) { h.Flags, h.Original = wire.S2, testBlock })
		}, true},
		"another root": {func(id uint32) []byte { return control(wire.TypeEnd, id, &wire.End{Root: random16()}) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuel(t, true, Config{ResumeTimeout: -1})
				defer d.end()
				d.prepare(sink)
				d.send(tc.frame(d.id))
				if err := <-d.ended; fault.KindOf(err) != fault.Corrupt || OneBlock(err) != tc.one {
					t.Errorf("one block: %v; %v", OneBlock(err), err)
				}
			})
		})
	}
}
