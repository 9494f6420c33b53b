package flow

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// A session that is closed while blocks move on several lanes ends at the
// other side at once and with the reason: the end of one lane must not be taken
// for a loss, after which that side would wait half a minute for new ones.
func TestCloseIsNoLoss(t *testing.T) {
	for range 20 {
		near, far, _, _ := pair(t, Config{Lanes: 3}, false)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		moving := make(chan struct{})
		wg.Go(func() {
			b, err := near.OpenBlocks(ctx, Open{Kind: "x", Send: true})
			if err != nil {
				t.Error(err)
				return
			}
			for {
				blk, err := b.Next(ctx)
				if err != nil || b.Send(ctx, blk, len(blk.Data)) != nil {
					return
				}
			}
		})
		wg.Go(func() {
			in, err := far.AcceptStream(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			b, err := in.AcceptBlocks(AcceptBlocks{Start: -1})
			if err != nil {
				t.Error(err)
				return
			}
			for n := 0; ; n++ {
				blk, err := b.Recv(ctx)
				if err != nil {
					return
				}
				blk.Release()
				if n == 50 {
					close(moving)
				}
			}
		})
		<-moving
		near.Close()
		<-far.Done()
		if losses := far.stats.losses.Load(); losses != 0 || fault.KindOf(far.Err()) != fault.Canceled {
			t.Errorf("%d losses, then %v", losses, far.Err())
		}
		cancel()
		wg.Wait()
	}
}

// TestCloseOfManyDeaf: however many peers do not read, the acceptor closes in the time that one of them takes.
func TestCloseOfManyDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := NewAcceptor(Config{})
		if err != nil {
			t.Fatal(err)
		}
		const peers = 30
		var conns []net.Conn
		for range peers {
			near, far := net.Pipe()
			conns = append(conns, near)
			go a.Handle(far)
			h := rawHello(1)
			if _, _, err := hello(near, &h); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Accept(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		settle()
		began := time.Now()
		a.Close()
		if took := time.Since(began); took > 2*farewellTime { // virtual
			t.Errorf("it took %v", took)
		}
		for _, c := range conns {
			c.Close()
		}
	})
}

// TestDrainOfDeaf: a peer that does not read holds up the end of an idle session no longer than it does when it is closed.
func TestDrainOfDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := NewAcceptor(Config{})
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		go a.Handle(far)
		h := rawHello(1)
		if _, _, err := hello(near, &h); err != nil {
			t.Fatal(err)
		}
		s, err := a.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(near, make([]byte, wire.HeaderSize+8)); err != nil { // PING, and nothing after it
			t.Fatal(err)
		}
		settle()
		began := time.Now()
		err = s.Drain(t.Context())
		if took := time.Since(began); took > 2*farewellTime { // virtual
			t.Errorf("it took %v: %v", took, err)
		}
		near.Close()
		a.Close()
	})
}
