package flow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// sendInPieces writes want in pieces of up to most bytes, with pauses, then
// closes the direction.
func sendInPieces(b *ByteStream, want []byte, most int, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 1))
	for len(want) > 0 {
		n := min(len(want), 1+r.IntN(most))
		if _, err := b.Write(want[:n]); err != nil {
			return err
		}
		want = want[n:]
		if r.IntN(4) == 0 {
			time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
		}
	}
	return b.CloseWrite()
}

// converse sends want both ways over a stream at once and reports what failed.
// Both ends close as soon as they have everything, as a relay does.
func converse(t *testing.T, a, b *ByteStream, want []byte, most int) {
	t.Helper()
	var wg sync.WaitGroup
	for i, s := range []*ByteStream{a, b} {
		var sent sync.WaitGroup
		sent.Go(func() {
			if err := sendInPieces(s, want, most, uint64(i)); err != nil {
				t.Errorf("end %d: write: %v", i, err)
			}
		})
		wg.Go(func() {
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("end %d: %d bytes of %d, right: %v, %v", i, len(got), len(want), bytes.Equal(got, want), err)
			}
			sent.Wait()
			s.Close()
		})
	}
	wg.Wait()
}

// drained fails the test if a session has anything left of streams that are over.
func drained(t *testing.T, sessions ...*Session) {
	t.Helper()
	time.Sleep(time.Minute)
	for i, s := range sessions {
		s.mu.Lock()
		if n := len(s.streams); n != 0 || s.granted != 0 || s.parting != 0 {
			t.Errorf("session %d: %d streams, %d bytes granted, %d of streams that are over", i, n, s.granted, s.parting)
		}
		s.mu.Unlock()
	}
}

// TestKeptBytesOverCuts: a stream with Resume loses, doubles and changes nothing
// over connections that are cut all the time, in pieces of any size, and both ends
// see the polite end of both directions.
func TestKeptBytesOverCuts(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	for _, class := range []wire.Class{wire.ClassRelay, wire.ClassInteractive} {
		for _, most := range []int{10, 3000, 200_000} {
			for _, budget := range []int{64 * KiB, 64 * MiB} {
				t.Run(fmt.Sprintf("%v/%d/%d", class, most, budget), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						cfg := Config{SessionBudget: budget, Pool: NewPool(budget)}
						near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: 5 * time.Millisecond, Rate: 100e6}, cfg)
						defer stop()
						a, b := bytePairOf(t, near, far, Open{Class: class, Resume: true})
						over := make(chan struct{})
						var wg sync.WaitGroup
						wg.Go(func() {
							r := rand.New(rand.NewPCG(uint64(most), 3))
							for {
								select {
								case <-over:
									return
								case <-time.After(time.Duration(50+r.IntN(150)) * time.Millisecond):
								}
								if r.IntN(2) == 0 {
									l.Cut()
								} else {
									l.CutAfter(flowtest.Direction(r.IntN(2)), int64(r.IntN(100_000)))
								}
							}
						})
						converse(t, a, b, content(min(3<<20, 3000*most)), most)
						close(over)
						wg.Wait()
						if near.Stats().Epoch < 3 {
							t.Errorf("only %d epochs: nothing was tested", near.Stats().Epoch)
						}
						drained(t, near, far)
						if u := cfg.Pool.Used(); u != 0 {
							t.Errorf("%d bytes of the pool are still in use", u)
						}
					})
				})
			}
		}
	}
}

// TestKeptEnd cuts the connection after every byte of a short conversation, so
// also before, inside of and after each FIN and each RESET of its end. Whoever
// was told that all is well had everything, and so had the other.
func TestKeptEnd(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	for _, dir := range []flowtest.Direction{flowtest.FromDialer, flowtest.FromAcceptor} {
		for after := range int64(420) {
			synctest.Test(t, func(t *testing.T) {
				near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: 4 * time.Millisecond}, Config{})
				defer stop()
				a, b := bytePairOf(t, near, far, Open{Resume: true})
				l.CutAfter(dir, after)
				converse(t, a, b, content(100), 60)
				drained(t, near, far)
			})
		}
	}
}

// TestKeptWithoutASession: the stream ends with the session, at both ends, and an
// end that is not polite is none.
func TestKeptWithoutASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{})
		defer stop()
		a, b := bytePairOf(t, near, far, Open{Resume: true})
		a.Write(content(1000))
		l.Refuse(true)
		l.Cut()
		a.Write(content(1000)) // is kept
		var wg sync.WaitGroup
		for _, s := range []*ByteStream{a, b} {
			wg.Go(func() {
				if _, err := io.Copy(io.Discard, s); !errors.Is(err, fault.Lost) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// TestKeptAbort: an abort while there are no connections is heard when there are.
func TestKeptAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{})
		defer stop()
		a, b := bytePairOf(t, near, far, Open{Resume: true})
		l.Cut()
		a.Reset(fault.New("x", fault.Refused, "no"))
		if _, err := b.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("the other end was told %v", err)
		}
		drained(t, near, far)
	})
}

// TestKeptIsBounded: without connections, and against a peer that takes bytes and
// never says so, a stream keeps what the budgets allow and then its writer waits.
func TestKeptIsBounded(t *testing.T) {
	for name, cut := range map[string]bool{"lost": true, "never acknowledged": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuel(t, true, Config{SessionBudget: MiB})
				defer d.end()
				id := d.own(1)
				b := d.opened(id, wire.Open{Window: wire.MaxOffset, Resume: true})
				if cut {
					d.conn.Close()
					settle()
				}
				var err error
				d.wg.Go(func() {
					for err == nil {
						_, err = b.Write(content(10_000))
					}
				})
				time.Sleep(5 * time.Second)
				if sent, _ := b.Counts(); sent < keptAnyway || sent > MiB {
					t.Errorf("%d bytes are kept", sent)
				}
				b.Close()
			})
		})
	}
}

// TestHostileKept: what a peer says of a stream that goes on is held against what
// was sent.
func TestHostileKept(t *testing.T) {
	for _, tc := range []struct {
		name string
		say  func(d *duel)
		want fault.Kind // of the session; 0: it goes on
	}{
		{"honest, all received", func(d *duel) { d.send(at(2, d.id, 5, MiB)) }, 0},
		{"honest, nothing received", func(d *duel) { d.send(at(2, d.id, 0, MiB)) }, 0},
		{"more than was sent", func(d *duel) { d.send(at(2, d.id, 6, MiB)) }, fault.Protocol},
		{"less than was acknowledged", func(d *duel) {
			d.send(at(2, d.id, 5, MiB), wire.AppendCredit(nil, d.id, MiB, 5))
			settle()
			d.conn.Close()
			settle()
			d.reconnect(3)
			d.send(at(3, d.id, 4, MiB))
		}, fault.Protocol},
		{"DATA again that had arrived", func(d *duel) {
			d.send(at(2, d.id, 0, MiB), data(d.id, 0, []byte("abc"), 0))
			settle()
			d.conn.Close()
			settle()
			d.reconnect(3)
			d.send(at(3, d.id, 0, MiB), data(d.id, 0, []byte("abc"), 0))
		}, fault.Protocol},
		{"twice in one RESUME", func(d *duel) {
			e := wire.ResumeStream{ID: d.id, Window: MiB}
			d.send(control(wire.TypeResume, 0, &wire.Resume{Epoch: 2, Streams: []wire.ResumeStream{e, e}}))
		}, fault.Protocol},
		{"a friendly RESET before the end", func(d *duel) { d.send(at(2, d.id, 0, MiB), resetFrame(d.id, nil)) }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := resumeDuel(t, kept, 2)
				defer d.end()
				tc.say(d)
				settle()
				if err := d.victim.Err(); (err == nil) != (tc.want == 0) || err != nil && fault.KindOf(err) != tc.want {
					t.Errorf("the session ended with %v, want %v", err, tc.want)
				}
			})
		})
	}
}

// TestKeptIsAcknowledged: the reader's end speaks at least as often as a writer
// without any budget needs it, however large the window is; and that is enough.
func TestKeptIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, true, Config{Window: MiB, SessionBudget: 8 * MiB})
		defer d.end()
		d.prepare(kept)
		for n := range int64(4) {
			d.send(data(d.id, n*keptAnyway, content(keptAnyway), 0))
			settle()
			if got := int64(len(d.got(wire.TypeCredit))); got <= n {
				t.Fatalf("%d CREDITs for %d bytes read", got, (n+1)*keptAnyway)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, true, Config{SessionBudget: 64 * KiB, Window: 64 * KiB})
		defer d.end()
		d.prepare(kept)
		const all = 3 * keptAnyway // less than the pipe window, which this peer never acknowledges
		d.wg.Go(func() { d.bytes.Write(content(all)) })
		for got := uint64(0); got < 5+all; {
			settle()
			sent, _ := d.bytes.Counts()
			if uint64(sent) < min(got+keptAnyway, 5+all) {
				t.Fatalf("%d bytes are sent and %d acknowledged", sent, got)
			}
			got = uint64(sent)
			d.send(wire.AppendCredit(nil, d.id, MiB, got))
		}
	})
}

// partings has the victim close n streams that were closed in order, after it has sent size bytes
// over each, and the peer confirm none of these ends.
func (d *duel) partings(n uint32, size int) {
	d.t.Helper()
	total := 0
	for i := range n {
		id := d.own(i + 1)
		b := d.opened(id, wire.Open{Window: MiB, Resume: true})
		d.send(data(id, 0, nil, wire.Fin))
		b.Write(content(size))
		b.CloseWrite()
		io.ReadAll(b)
		b.Close()
		settle()
		total += size + 2*wire.DataHeadSize
		d.send(wire.AppendPipeAck(nil, uint64(total)))
	}
}

// TestHostileParting: a peer that does not confirm the end of streams has this end keep what
// the session's budget allows, and that for as long as a session may take to come back.
func TestHostileParting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, true, Config{SessionBudget: MiB, ResumeTimeout: time.Hour})
		defer d.end()
		const n = 40
		d.partings(n, 60*KiB)
		if s := d.victim.Stats(); s.Granted > MiB+64*KiB || s.Streams == 0 || d.victim.Err() != nil {
			t.Errorf("%d bytes are kept of %d streams, %v", s.Granted, s.Streams, d.victim.Err())
		}
		if got := len(d.got(wire.TypeReset)); got != n {
			t.Errorf("the peer was told the end of %d streams", got)
		}
		time.Sleep(time.Hour)
		if s := d.victim.Stats(); s.Granted != 0 || s.Streams != 0 || d.victim.Err() != nil {
			t.Errorf("%d bytes are still kept of %d streams, %v", s.Granted, s.Streams, d.victim.Err())
		}
	})
}

// TestHostileAfterParting: what comes for a stream that is over but not confirmed is
// bounded, as for others that are over.
func TestHostileAfterParting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, true, Config{})
		defer d.end()
		d.partings(1, 10)
		for range 20 {
			d.send(data(d.own(1), 0, content(64*KiB), 0))
		}
		settle()
		if err := d.victim.Err(); fault.KindOf(err) != fault.Protocol {
			t.Errorf("the session ended with %v", err)
		}
	})
}

// TestKeptIsAcknowledgedAfterTheEnd: what is read is acknowledged, too, when the writer has
// closed its direction: it may have a whole window of it.
func TestKeptIsAcknowledgedAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{})
		defer stop()
		a, b := bytePairOf(t, near, far, Open{Resume: true})
		if _, err := a.Write(content(200 * KiB)); err != nil {
			t.Fatal(err)
		}
		a.CloseWrite()
		settle()
		before := near.Stats().Granted
		if n, err := io.Copy(io.Discard, b); n != 200*KiB || err != nil {
			t.Error(n, err)
		}
		settle()
		if freed := before - near.Stats().Granted; freed < 200*KiB-keptAnyway {
			t.Errorf("%d bytes of 200 KiB are not kept any more", freed)
		}
	})
}

// TestKeptDeadline: a writer waits for a connection that takes nothing as long as its deadline
// says; what it has handed over is sent all the same, when there is room.
func TestKeptDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, true, Config{})
		defer d.end()
		id := d.own(1)
		b := d.opened(id, wire.Open{Window: wire.MaxOffset, Resume: true})
		b.SetWriteDeadline(time.Now().Add(time.Second))
		wrote := make(chan error, 1)
		d.wg.Go(func() { _, err := b.Write(content(MiB)); wrote <- err })
		time.Sleep(time.Minute)
		select {
		case err := <-wrote:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		default:
			t.Error("the writer still waits")
			b.Reset(errEpochOver)
			return
		}
		came := func() (n int64) {
			for _, f := range d.got(wire.TypeData) {
				n += int64(f.Length)
			}
			return n
		}
		sent, _ := b.Counts()
		if n := came(); n == sent {
			t.Errorf("all of %d bytes had come: nothing was tested", sent)
		}
		d.send(wire.AppendPipeAck(nil, uint64(came()+int64(len(d.got(wire.TypeData))*wire.DataHeadSize))))
		settle()
		if n := came(); n != sent {
			t.Errorf("%d of %d bytes have come", n, sent)
		}
	})
}
