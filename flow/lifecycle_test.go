package flow

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// TestDrain: what runs is finished, nothing new begins, the session ends.
func TestDrain(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	for _, nearDrains := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: 10 * time.Millisecond, Rate: 40e6}, Config{})
			defer stop()
			drains := far
			if nearDrains {
				drains = near
			}
			want := content(8 * MiB)
			var wg sync.WaitGroup
			wg.Go(func() {
				time.Sleep(500 * time.Millisecond)
				if err := drains.Drain(t.Context()); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				time.Sleep(time.Second)
				l.Cut() // a drain survives that too
				for _, s := range []*Session{near, far} {
					if _, err := s.OpenBytes(t.Context(), Open{Kind: "x"}); !errors.Is(err, fault.Draining) {
						t.Errorf("a new stream: %v", err)
					}
				}
			})
			got, err := carry(t, near, far, want, Open{})
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			wg.Wait()
			settle()
			for _, s := range []*Session{near, far} {
				if !errors.Is(s.Err(), fault.Draining) {
					t.Errorf("the session ended with %v", s.Err())
				}
			}
		})
	}
}

func TestDrainGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{}, Config{})
		defer stop()
		a, b := bytePair(t, near, far, wire.ClassRelay)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := far.Drain(ctx); !errors.Is(err, fault.Deadline) {
			t.Error(err)
		}
		settle()
		for _, s := range []*ByteStream{a, b} {
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, fault.Draining) {
				t.Errorf("a stream that was still open: %v", err)
			}
		}
	})
}

// TestGoAwayRace: OPENs that cross a GOAWAY are refused as Draining.
func TestGoAwayRace(t *testing.T) {
	for name, leave := range map[string]func(*Session){"GoAway": (*Session).GoAway, "Drain": func(s *Session) { _ = s.Drain(context.Background()) }} {
		synctest.Test(t, func(t *testing.T) {
			near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: 100 * time.Millisecond}, Config{})
			defer stop()
			a, b := bytePair(t, near, far, wire.ClassRelay) // keeps the session
			go leave(far)
			time.Sleep(10 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := near.OpenBytes(ctx, Open{Kind: "x"})
			var e *fault.Error
			if !errors.As(err, &e) || e.Kind != fault.Draining || e.Side != fault.Peer {
				t.Errorf("%s: %v", name, err)
			}
			a.Close()
			b.Close()
			settle()
		})
	}
}

// TestBudgetOfResumedSink: what a sink grants is counted from where it starts.
func TestBudgetOfResumedSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{}, Config{})
		defer stop()
		go func() {
			in, err := far.AcceptStream(t.Context())
			if err == nil {
				in.Refuse(fault.New("x", fault.Refused, "no"))
			}
		}()
		_, err := near.OpenBlocks(t.Context(), Open{Kind: "x", Start: 1 << 40})
		if !errors.Is(err, fault.Refused) {
			t.Error(err)
		}
		if g := near.Stats().Granted; g != 0 {
			t.Errorf("%d bytes are granted", g)
		}
	})
}

// TestFinishNeedsTheEnd: no verdict without every byte.
func TestFinishNeedsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, true, Config{})
		defer d.end()
		d.prepare(sink)
		if err := d.blocks.Finish(nil); !errors.Is(err, fault.Invalid) {
			t.Errorf("a verdict before the end: %v", err)
		}
		d.send(resetFrame(d.id, fault.New("x", fault.SourceChanged, "y")))
		settle()
		if err := d.blocks.Finish(nil); !errors.Is(err, fault.SourceChanged) {
			t.Errorf("a verdict after RESET: %v", err)
		}
	})
}

// TestSendIsInOrder: blocks belong where Next put them.
func TestSendIsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, true, Config{})
		defer d.end()
		d.id = d.own(1)
		d.send(openFrame(d.id, wire.Open{Blocks: true, BlockSize: testBlock, Window: MiB}))
		in, err := d.victim.AcceptStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b, err := in.AcceptBlocks(AcceptBlocks{Start: -1})
		if err != nil {
			t.Fatal(err)
		}
		one, _ := b.Next(t.Context())
		two, _ := b.Next(t.Context())
		if err := b.Send(t.Context(), one, 10); err != nil {
			t.Error(err)
		}
		if err := b.Send(t.Context(), two, 10); !errors.Is(err, fault.Invalid) {
			t.Errorf("the same place twice: %v", err)
		}
		three, _ := b.Next(t.Context()) // there is nothing to send, which needs no credit
		if err := b.Send(t.Context(), three, 1); !errors.Is(err, fault.Invalid) {
			t.Errorf("a block after a short one: %v", err)
		}
		b.Reset(nil)
	})
}

// TestDrainBetweenConnections: a peer that was cut off when it was told of the drain hears of it when it is back.
func TestDrainBetweenConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: 10 * time.Millisecond}, Config{})
		defer stop()
		bytePairOf(t, near, far, Open{Class: wire.ClassRelay, Resume: true}) // keeps the session
		var wg sync.WaitGroup
		l.Refuse(true)
		l.Cut()
		settle()
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() { _ = far.Drain(ctx) })
		settle()
		l.Refuse(false)
		time.Sleep(10 * time.Second)
		if near.Err() != nil || !near.Draining() {
			t.Errorf("the peer is draining: %v; it has ended with %v", near.Draining(), near.Err())
		}
		cancel()
		wg.Wait()
	})
}

// TestGoAway: the peer opens nothing new, also when it has lost its connections meanwhile, and this end does, until it drains.
func TestGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: 10 * time.Millisecond}, Config{})
		defer stop()
		bytePairOf(t, near, far, Open{Class: wire.ClassRelay, Resume: true}) // keeps the session
		l.Refuse(true)
		l.Cut()
		settle()
		far.GoAway()
		l.Refuse(false)
		for range 2 {
			time.Sleep(10 * time.Second)
			if _, err := near.OpenBytes(t.Context(), Open{Kind: "x"}); !errors.Is(err, fault.Draining) {
				t.Errorf("a stream of the peer's: %v", err)
			}
			if !near.Draining() || !far.Draining() {
				t.Errorf("draining: %v at the peer, %v here", near.Draining(), far.Draining())
			}
			a, b := bytePairOf(t, far, near, Open{Kind: "x"})
			a.Close()
			b.Close()
			l.Cut()
		}
		time.Sleep(10 * time.Second)
		if near.Err() != nil || far.Err() != nil {
			t.Fatalf("the session ended with %v, %v", near.Err(), far.Err())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = far.Drain(ctx)
		if _, err := far.OpenBytes(t.Context(), Open{Kind: "x"}); !errors.Is(err, fault.Draining) {
			t.Errorf("a stream after Drain: %v", err)
		}
	})
}

// TestAcceptorGoesAway: sessions that are there go on, and no new one is made.
func TestAcceptorGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{}, Config{})
		defer stop()
		far.home.GoAway()
		settle()
		if !near.Draining() || near.Err() != nil {
			t.Errorf("draining: %v; %v", near.Draining(), near.Err())
		}
		if s, err := Connect(t.Context(), l, Config{}); !errors.Is(err, fault.Draining) {
			if err == nil {
				s.Close()
			}
			t.Errorf("a new session: %v", err)
		}
		if c, err := near.OpenRPC(t.Context()); !errors.Is(err, fault.Draining) {
			if err == nil {
				c.Close()
			}
			t.Errorf("a connection for gRPC: %v", err)
		}
		bytePairOf(t, far, near, Open{Kind: "x"})
	})
}
