package flow

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// families are frames that are welcome as they are, one of each sort that is
// read in its own way.
var families = []struct {
	name  string
	setup setup
	make  func(d *duel) []byte
}{
	{"PING", none, func(*duel) []byte { return wire.AppendPing(nil, 7) }},
	{"PIPEACK", none, func(*duel) []byte { return wire.AppendPipeAck(nil, 0) }},
	{"LANES", none, func(*duel) []byte { return wire.AppendLanes(nil, 1) }},
	{"GOAWAY", none, func(*duel) []byte { return control(wire.TypeGoAway, 0, &wire.GoAway{Kind: 1}) }},
	{"OPEN", none, func(d *duel) []byte { return openFrame(d.own(1), wire.Open{Window: KiB, Meta: content(100)}) }},
	{"ACCEPT", mysource, func(d *duel) []byte {
		return control(wire.TypeAccept, d.id, &wire.Accept{BlockSize: testBlock, Window: MiB})
	}},
	{"CREDIT", source, func(d *duel) []byte { return wire.AppendCredit(nil, d.id, MiB, testBlock) }},
	{"DURABLE", source, func(d *duel) []byte { return wire.AppendDurable(nil, d.id, testBlock) }},
	{"END", sink, func(d *duel) []byte { return control(wire.TypeEnd, d.id, &wire.End{Total: 64 * KiB}) }},
	{"BLOCK", sink, func(d *duel) []byte { return block(d.id, 0, content(testBlock)) }},
	{"DATA", relay, func(d *duel) []byte { return data(d.id, 0, content(1000), 0) }},
	{"DATA without content", relay, func(d *duel) []byte { return data(d.id, 0, nil, 0) }},
}

// hostileChecks: what becomes of good frames on a bad wire.
func hostileChecks() (list []hostile) {
	for _, f := range families {
		list = append(list, hostile{name: "good " + f.name, setup: f.setup, attack: func(d *duel) { d.send(f.make(d)) }})
		for _, at := range []int{0, 1, 2, 3, 4, 7, 8, 11, 12, 15, 16, 23, 24, 31} { // header, check, words or body
			list = append(list, hostile{name: "damaged " + f.name, setup: f.setup, session: fault.Corrupt, attack: func(d *duel) {
				b := d.seal(f.make(d))
				if b[min(at, len(b)-1)] ^= 1; at == 11 {
					b = append(b, make([]byte, 8)...) // one byte of it belongs to the frame now
				}
				d.mute()
				d.write(b)
			}})
		}
		list = append(list, hostile{name: "frame lost before " + f.name, setup: f.setup, session: fault.Corrupt, attack: func(d *duel) {
			d.seal(wire.AppendPong(nil, 1))
			d.send(f.make(d))
		}}, hostile{name: "frame doubled before " + f.name, setup: f.setup, session: fault.Corrupt, attack: func(d *duel) {
			pong := d.seal(wire.AppendPong(nil, 1))
			d.write(pong)
			d.write(pong)
			d.send(f.make(d))
		}})
	}
	return append(list, hostile{name: "damaged content of DATA", setup: relay, stream: fault.Corrupt, attack: func(d *duel) {
		b := d.seal(data(d.id, 0, content(1000), 0))
		b[wire.DataHeadSize+500] ^= 1
		d.write(b)
	}, check: func(d *duel) {
		if n := len(d.got(wire.TypeReset)); n != 1 {
			d.t.Errorf("%d RESETs", n)
		}
		if n, err := d.bytes.Read(make([]byte, 10)); n != 0 || fault.KindOf(err) != fault.Corrupt {
			d.t.Errorf("after the end: %d bytes, %v", n, err)
		}
	}}, hostile{name: "damaged content of DATA with FIN", setup: relay, stream: fault.Corrupt, attack: func(d *duel) {
		b := d.seal(data(d.id, 0, content(1000), wire.Fin))
		b[wire.DataHeadSize] ^= 1
		d.write(b)
	}, check: func(d *duel) {
		if n, err := d.bytes.Read(make([]byte, 10)); n != 0 || fault.KindOf(err) != fault.Corrupt {
			d.t.Errorf("after the end: %d bytes, %v", n, err)
		}
	}}, hostile{name: "DATA with the digest of another place", setup: relay, stream: fault.Corrupt, attack: func(d *duel) {
		d.send(data(d.id, 0, content(10), 0, func(h *wire.DataHead) { h.Digest = blockDigest(content(10), 1) }))
	}}, hostile{name: "digest of nothing is wrong", setup: relay, session: fault.Protocol, attack: func(d *duel) {
		d.send(data(d.id, 0, nil, 0, func(h *wire.DataHead) { h.Digest++ }))
	}}, hostile{name: "DATA beyond every offset", setup: relay, session: fault.Protocol, attack: func(d *duel) {
		d.send(data(d.id, 0, content(10), 0, func(h *wire.DataHead) { h.Offset = wire.MaxOffset + 1 }))
	}}, hostile{name: "DATA that agrees in the low half of its offset", setup: relay, session: fault.Protocol, attack: func(d *duel) {
		d.send(data(d.id, 1<<32, content(10), 0))
	}})
}

// TestDamageEndsTheEpoch: a damaged frame costs the connection, not the session;
// damage and nothing but damage ends that too, and content in between makes good
// for what was before.
func TestDamageEndsTheEpoch(t *testing.T) {
	for _, tc := range []struct {
		name   string
		good   int // the epoch, from 1, in which content comes first; 0: none
		epochs int // until the session is over
	}{
		{"nothing but damage", 0, maxSpoiled},
		{"content once", 3, 3 + maxSpoiled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuel(t, true, Config{})
				defer d.end()
				d.prepare(sink)
				for epoch := 1; ; epoch++ {
					if epoch > 1 {
						d.reconnect(uint32(epoch))
						d.send(at(uint32(epoch), d.id, 0, 0))
					}
					if epoch == tc.good {
						d.send(block(d.id, 0, content(testBlock)))
					}
					bad := d.seal(wire.AppendPong(nil, 1))
					bad[15] ^= 1
					d.write(bad)
					settle()
					if !d.hungUp() {
						t.Fatalf("epoch %d goes on", epoch)
					}
					if n := d.victim.Stats().Damaged; n != int64(epoch) {
						t.Errorf("%d damaged epochs, want %d", n, epoch)
					}
					if err := d.victim.Err(); err != nil {
						if epoch != tc.epochs || fault.KindOf(err) != fault.Corrupt {
							t.Errorf("over in epoch %d: %v; want %d", epoch, err, tc.epochs)
						}
						break
					} else if epoch >= tc.epochs {
						t.Fatalf("still there after epoch %d", epoch)
					}
				}
				if k := d.streamKind(); k != fault.Corrupt {
					t.Errorf("the stream ended with %v", k)
				}
			})
		})
	}
}

// TestQuietSessionSurvivesDamage: without any content, an epoch that has outlived
// the keepalive was good for something.
func TestQuietSessionSurvivesDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, true, Config{})
		defer d.end()
		for epoch := uint32(1); epoch < 3*maxSpoiled; epoch++ {
			if epoch > 1 {
				d.reconnect(epoch)
				d.send(control(wire.TypeResume, 0, &wire.Resume{Epoch: epoch}))
			}
			for range 100 {
				settle()
			}
			d.write(d.seal(wire.AppendPong(nil, 1))[:16])
			d.write(make([]byte, 8))
			settle()
			if err := d.victim.Err(); err != nil || !d.hungUp() {
				t.Fatalf("epoch %d: %v", epoch, err)
			}
		}
	})
}

// TestDamageOnABulkLane: what does not belong there may be what it is because
// of the damage, so the check comes first.
func TestDamageOnABulkLane(t *testing.T) {
	for _, bad := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			d := newDuel(t, true, Config{ResumeTimeout: -1})
			defer d.end()
			h := rawHello(1)
			h.Session, h.Token, h.Purpose = d.ack.Session, d.ack.Token, wire.Bulk
			bulk, _, err := rawConnect(t, d.link, h)
			if err != nil {
				t.Fatal(err)
			}
			defer bulk.conn.Close()
			want := fault.Protocol
			if f := frame(wire.Header{Type: wire.TypeGoAway, Length: 8}, make([]byte, 8)); bad {
				f[0] = byte(wire.TypePipeAck)
				want, f = fault.Corrupt, bulk.seal(f)
				f[0] = byte(wire.TypeGoAway)
				bulk.write(f)
			} else {
				bulk.send(f)
			}
			for range 5 {
				settle() // a failed bulk lane waits a moment for CLOSE elsewhere
			}
			if err := d.victim.Err(); fault.KindOf(err) != want {
				t.Errorf("the session ended with %v, want %v", err, want)
			}
		})
	}
}

// TestDamagedHandshake: the frames with which a session resumes may be damaged
// themselves. The next attempt has to work.
func TestDamagedHandshake(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	for _, dir := range []flowtest.Direction{flowtest.FromDialer, flowtest.FromAcceptor} {
		for at := int64(len(wire.Preface)); at < 100; at += 3 {
			synctest.Test(t, func(t *testing.T) {
				near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: 10 * time.Millisecond, Rate: 20e6, Single: true}, Config{})
				defer stop()
				l.Corrupt(flowtest.Flip(dir, 1, at)) // the second connection
				go func() {
					time.Sleep(300 * time.Millisecond)
					l.Cut()
				}()
				want := content(1 << 20)
				got, err := carry(t, near, far, want, Open{})
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("bit of byte %d, direction %d: %d bytes, %v", at, dir, len(got), err)
				}
				if e := near.Stats().Epoch; e < 3 {
					t.Errorf("bit of byte %d, direction %d: epoch %d, so nothing was damaged", at, dir, e)
				}
			})
		}
	}
}
