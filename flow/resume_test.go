package flow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// resumeDuel is a duel with a block stream whose connection is then lost, and a
// new connection of the raw peer on which nothing has been said yet. The victim
// has its RESUME out.
func resumeDuel(t *testing.T, s setup, epoch uint32) *duel {
	d := newDuel(t, true, Config{})
	d.prepare(s)
	d.conn.Close()
	settle()
	d.reconnect(epoch)
	return d
}

func (d *duel) reconnect(epoch uint32) {
	d.t.Helper()
	h := rawHello(epoch)
	h.Session, h.Token = d.ack.Session, d.ack.Token
	p, _, err := rawConnect(d.t, d.link, h)
	if err != nil {
		d.t.Fatal(err)
	}
	d.rawPeer = p
	d.listen(&d.wg)
	settle()
}

// at is a RESUME that lists one stream.
func at(epoch, id uint32, received, window uint64) []byte {
	return control(wire.TypeResume, 0, &wire.Resume{Epoch: epoch, Streams: []wire.ResumeStream{{ID: id, Received: received, Window: window}}})
}

func TestHostileResume(t *testing.T) {
	for _, tc := range []struct {
		name  string
		setup setup
		say   func(d *duel)
		want  fault.Kind // of the session; 0: it goes on
		told  fault.Kind // of the stream's user
	}{
		{"another epoch", source, func(d *duel) { d.send(at(1, d.id, 0, MiB)) }, fault.Protocol, fault.Protocol},
		{"twice", source, func(d *duel) { d.send(at(2, d.id, 0, MiB), at(2, d.id, 0, MiB)) }, fault.Protocol, fault.Protocol},
		{"received more than sent", source, func(d *duel) { d.send(at(2, d.id, 2*testBlock, MiB)) }, fault.Protocol, fault.Protocol},
		{"received half a block", source, func(d *duel) { d.send(at(2, d.id, testBlock/2, MiB)) }, fault.Protocol, fault.Protocol},
		{"honest", source, func(d *duel) { d.send(at(2, d.id, testBlock, MiB)) }, 0, 0},
		{"stream 0", source, func(d *duel) {
			d.send(body(wire.TypeResume, 0, 0x92, 2, 0x91, 0x94, 0, 0, 0, 0))
		}, fault.Protocol, fault.Protocol},
		{"stream forgotten", source, func(d *duel) { d.send(control(wire.TypeResume, 0, &wire.Resume{Epoch: 2})) }, 0, fault.Lost},
		{"sink forgotten", sink, func(d *duel) { d.send(control(wire.TypeResume, 0, &wire.Resume{Epoch: 2})) }, 0, fault.Lost},
		{"VERDICT in a new epoch before END", source, func(d *duel) {
			d.send(at(2, d.id, testBlock, MiB), control(wire.TypeVerdict, d.id, &wire.Verdict{}))
		}, fault.Protocol, fault.Protocol},
		{"BLOCK that was received before", sink, func(d *duel) {
			d.send(at(2, d.id, 0, 0), block(d.id, 0, content(testBlock)), block(d.id, 0, content(testBlock)))
		}, fault.Protocol, fault.Protocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := resumeDuel(t, tc.setup, 2)
				defer d.end()
				if n := len(d.got(wire.TypeResume)); n != 1 {
					t.Errorf("%d RESUMEs from the victim", n)
				}
				tc.say(d)
				settle()
				if err := d.victim.Err(); (err == nil) != (tc.want == 0) || err != nil && fault.KindOf(err) != tc.want {
					t.Errorf("the session ended with %v, want %v", err, tc.want)
				}
				if k := d.streamKind(); k != tc.told {
					t.Errorf("the stream ended with %v, want %v", k, tc.told)
				}
			})
		})
	}
}

// TestUnknownStreamInResume: the peer is told that nobody knows it.
func TestUnknownStreamInResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := resumeDuel(t, none, 2)
		defer d.end()
		d.send(at(2, 77, 0, 0))
		settle()
		r := d.got(wire.TypeReset)
		var m wire.Reset
		if len(r) != 1 || r[0].Stream != 77 || wire.Decode(r[0].body, &m) != nil || fault.Kind(m.Kind) != fault.Lost {
			t.Errorf("answers: %v", r)
		}
	})
}

// TestOldEpochsAreStale: check 16's replays. Nothing a captured connection says
// is taken, whatever epoch it was of.
func TestOldEpochsAreStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := resumeDuel(t, sink, 2)
		defer d.end()
		d.send(at(2, d.id, 0, 0), block(d.id, 0, content(testBlock)))
		settle()
		for epoch := range uint32(3) {
			h := rawHello(epoch)
			h.Session, h.Token = d.ack.Session, d.ack.Token
			for _, p := range []wire.Purpose{wire.Control, wire.Bulk} {
				if h.Purpose = p; p == wire.Bulk && epoch == 2 {
					continue
				}
				r, _, err := rawConnect(t, d.link, h)
				if !errors.Is(err, fault.Stale) {
					t.Errorf("epoch %d, %v: %v", epoch, p, err)
				}
				r.send(block(d.id, testBlock, content(testBlock)))
			}
		}
		settle()
		if n := d.blocks.Stats().Blocks; n != 1 || d.victim.Stats().Epoch != 2 {
			t.Errorf("%d blocks arrived, epoch %d", n, d.victim.Stats().Epoch)
		}
	})
}

// TestLostAnswerToResume: the acceptor is in an epoch that the connector never
// heard of. The next attempt has to work all the same.
func TestLostAnswerToResume(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	for _, after := range []int64{1, 8, 24, 60, 300} {
		synctest.Test(t, func(t *testing.T) {
			near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: 10 * time.Millisecond, Rate: 100e6}, Config{})
			defer stop()
			want := content(5 << 20)
			go func() {
				time.Sleep(300 * time.Millisecond)
				l.Cut()
				l.CutAfter(flowtest.FromAcceptor, after)
			}()
			got, err := carry(t, near, far, want, Open{})
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("cut after %d bytes of the answer: %d bytes, %v", after, len(got), err)
			}
			if near.Stats().Epoch < 3 {
				t.Errorf("cut after %d bytes: epoch %d", after, near.Stats().Epoch)
			}
		})
	}
}

// TestResumeWhenAllWasReceived: the connections go when the sink has every
// block and END, and its user takes its time before the verdict. The source
// must neither wait for credit nor miss the verdict.
func TestResumeWhenAllWasReceived(t *testing.T) {
	for _, size := range []int{64 * KiB, 64*KiB + 1, 4 * 64 * KiB, 1 << 20, 0} {
		for _, cuts := range []int{1, 3} {
			synctest.Test(t, func(t *testing.T) {
				near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: 10 * time.Millisecond}, Config{BlockSize: 64 * KiB, Window: 64 * KiB, SessionBudget: 64 * KiB})
				defer stop()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var wg sync.WaitGroup
				wg.Go(func() {
					in, err := far.AcceptStream(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					b, _ := in.AcceptBlocks(AcceptBlocks{Start: -1})
					for {
						blk, err := b.Recv(ctx)
						if err != nil {
							break
						}
						blk.Release()
					}
					for range cuts {
						l.Cut()
						time.Sleep(2 * time.Second)
					}
					if err := b.Finish([]byte("ok")); err != nil {
						t.Error(err)
					}
				})
				b, err := near.OpenBlocks(ctx, Open{Kind: "x", Send: true})
				if err != nil {
					t.Fatal(err)
				}
				if v, err := push(ctx, b, content(size)); err != nil || string(v) != "ok" {
					t.Errorf("%d bytes, %d cuts: verdict %q, %v", size, cuts, v, err)
				}
				wg.Wait()
			})
		}
	}
}

// TestPausesOfUselessEpochs: who welcomes every connection and closes it at once is not dialled
// all the time; but after an epoch that was of use the next attempt is made at once.
func TestPausesOfUselessEpochs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := flowtest.NewLink(flowtest.LinkConfig{RTT: 10 * time.Millisecond})
		var welcomes atomic.Int32
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				p, err := rawAccept(t, l, nil)
				if err != nil {
					return
				}
				welcomes.Add(1)
				time.Sleep(5 * time.Millisecond)
				p.conn.Close()
			}
		})
		s, err := Connect(t.Context(), l, Config{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := welcomes.Load(); n < 10 || n > 40 {
			t.Errorf("%d connections in a minute", n)
		}
		s.Close()
		l.Close()
		wg.Wait()
	})
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: 10 * time.Millisecond}, Config{})
		defer stop()
		back := func() time.Duration {
			began, epoch := time.Now(), near.Stats().Epoch
			for l.Cut(); near.Stats().Epoch == epoch; {
				time.Sleep(time.Millisecond)
			}
			settle()
			return time.Since(began)
		}
		const atOnce = 300 * time.Millisecond // settle's 200 among them
		for i := range 10 {
			if took := back(); (took < atOnce) != (i == 0) && i != 1 && i != 2 {
				t.Errorf("useless epoch %d: connected again after %v", i, took)
			}
		}
		if _, err := carry(t, near, far, content(1000), Open{}); err != nil {
			t.Fatal(err)
		}
		settle()
		if took := back(); took >= atOnce {
			t.Errorf("after content: connected again after %v", took)
		}
	})
}

// TestManyResumptions: check 16, twenty times within one transfer.
func TestManyResumptions(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: 10 * time.Millisecond, Rate: 100e6}, Config{Lanes: 2})
		defer stop()
		done := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 20 {
				select {
				case <-time.After(100 * time.Millisecond):
					l.Cut()
				case <-done:
					return
				}
			}
		})
		want := content(20 << 20)
		got, err := carry(t, near, far, want, Open{})
		close(done)
		wg.Wait()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if e := near.Stats().Epoch; e < 20 {
			t.Errorf("only %d epochs", e)
		}
		t.Logf("%d epochs, %d bytes sent for %d", near.Stats().Epoch, near.Stats().BytesOut, len(want))
	})
}

// TestMoreStreamsThanResumeLists: those that fit go on, the others end at both
// ends, and nobody waits for what the other has forgotten.
func TestMoreStreamsThanResumeLists(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	synctest.Test(t, func(t *testing.T) {
		const n = wire.MaxResume + 20
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{MaxStreams: 2 * n})
		defer stop()
		near.mu.Lock()
		near.lastOwn = 1<<20 + 1 // ids of five bytes in RESUME
		near.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		sources, sinks := make([]error, n), make(chan error, n)
		for range n {
			wg.Go(func() {
				in, err := far.AcceptStream(ctx)
				if err != nil {
					sinks <- err
					return
				}
				b, err := in.AcceptBlocks(AcceptBlocks{Start: -1})
				if err == nil {
					_, err = pull(ctx, b)
				}
				sinks <- err
			})
		}
		var opened sync.WaitGroup
		limit := make(chan struct{}, 100)
		for i := range n {
			limit <- struct{}{}
			opened.Add(1)
			wg.Go(func() {
				const start = 1 << 40 // numbers of nine bytes in RESUME
				b, err := near.OpenBlocks(ctx, Open{Kind: "x", Send: true, Start: start, BlockSize: 4 * KiB})
				opened.Done()
				<-limit
				if err == nil {
					err = pushLater(ctx, b, start+100)
				}
				sources[i] = err
			})
		}
		opened.Wait()
		settle()
		l.Cut()
		wg.Wait()
		var good, bad, lost int
		for _, err := range sources {
			if err == nil {
				good++
			}
		}
		for range n {
			if err := <-sinks; err == nil {
				bad++
			} else if errors.Is(err, fault.Lost) {
				lost++
			}
		}
		if good != maxResumed || bad != maxResumed || lost != n-maxResumed {
			t.Errorf("%d sources and %d sinks went on, %d were lost; want %d and %d", good, bad, lost, maxResumed, n-maxResumed)
		}
		if g := far.Stats().Granted; g != 0 {
			t.Errorf("%d bytes granted", g)
		}
	})
}

// pushLater sends from the stream's start to size, five seconds from now.
func pushLater(ctx context.Context, b *BlockStream, size int64) error {
	time.Sleep(5 * time.Second)
	for {
		blk, err := b.Next(ctx)
		if err != nil {
			return err
		}
		if err := b.Send(ctx, blk, int(min(size-blk.Offset, int64(len(blk.Data))))); err != nil {
			return err
		}
		if err := b.End(nil); err != nil {
			return err
		}
		if _, err = b.Verdict(ctx); !errors.Is(err, ErrRewound) {
			return err
		}
	}
}

// TestResetWhileAcceptedIsNotLost: the peer takes a stream back in the moment it
// is accepted.
func TestResetWhileAcceptedIsNotLost(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	for round := range 50 {
		synctest.Test(t, func(t *testing.T) {
			d := newDuel(t, true, Config{})
			defer d.end()
			var wg sync.WaitGroup
			for n := range uint32(20) {
				id := d.own(n + 1)
				d.send(openFrame(id, wire.Open{Blocks: true, Send: true, BlockSize: testBlock}))
				in, err := d.victim.AcceptStream(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { d.send(resetFrame(id, fault.New("x", fault.Canceled, "%s", fmt.Sprint(round)))) })
				wg.Go(func() {
					if b, err := in.AcceptBlocks(AcceptBlocks{Start: -1}); err == nil {
						if _, err := b.Recv(t.Context()); !errors.Is(err, fault.Canceled) {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
