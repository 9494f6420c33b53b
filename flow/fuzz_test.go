package flow

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/pannier/pannier/flow/wire"
)

// FuzzPeer lets arbitrary bytes follow a valid handshake: nothing panics, nobody
// waits for ever, the other session goes on and nothing is left.
func FuzzPeer(f *testing.F) {
	f.Add([]byte{}, uint8(none), true)
	f.Add(block(1, 0, content(100)), uint8(sink), true)
	f.Add(append(block(1, 0, content(100)), control(wire.TypeEnd, 1, &wire.End{Total: 100, Root: Root{}.Fold(0, content(100))})...), uint8(sink), true)
	f.Add(wire.AppendCredit(nil, 1, MiB, testBlock), uint8(source), true)
	f.Add(append(data(2, 0, []byte("hello"), 0), data(2, 5, nil, wire.Fin)...), uint8(relay), false)
	f.Add(control(wire.TypeAccept, 2, &wire.Accept{BlockSize: testBlock, Window: MiB}), uint8(mysource), true)
	f.Add(control(wire.TypeAccept, 1, &wire.Accept{BlockSize: 4 * KiB}), uint8(mysink), false)
	f.Add(append(openFrame(3, wire.Open{Window: KiB}), resetFrame(3, nil)...), uint8(none), true)
	f.Add(packedBlock(1, wire.S2, 5000, 5000), uint8(sink), true)
	f.Add(control(wire.TypeGoAway, 0, &wire.GoAway{}), uint8(none), false)
	f.Add(append(wire.AppendPing(nil, 1), wire.AppendLanes(nil, 8)...), uint8(none), true)
	f.Fuzz(func(t *testing.T, said []byte, s uint8, asConnector bool) {
		synctest.Test(t, func(t *testing.T) {
			d := newDuel(t, asConnector, Config{ResumeTimeout: -1})
			defer d.end()
			d.prepare(setup(s) % setupsEnd)
			d.send(bytes.Clone(said)) // send seals
			settle()
		})
	})
}
