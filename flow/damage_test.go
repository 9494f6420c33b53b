package flow

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
)

// TestDamageIsDetected: one bit flipped, some bytes dropped or doubled anywhere on a
// wire without TLS, where a lost connection ends the session: the sink never calls
// wrong content a success, and the source never calls a success what the sink did
// not. TestDamagedSessions is the same with whole frames, and sessions that resume.
func TestDamageIsDetected(t *testing.T) {
	t.Parallel()
	want := content(100_000)
	var runs, passed, detected int
	step := int64(5)
	for at := int64(0); at < 110_000; at += step {
		if at >= 600 {
			step = 2711 // heads and control frames come first, then mostly content
		}
		for kind := range 3 {
			dir := flowtest.FromDialer
			if at < 600 && at%2 == 1 {
				dir = flowtest.FromAcceptor
			}
			damage := [](flowtest.Corruption){flowtest.Flip(dir, 0, at), flowtest.Drop(dir, 0, at, 1+int(at%40)), flowtest.Duplicate(dir, 0, at, 1+int(at%40))}[kind]
			synctest.Test(t, func(t *testing.T) {
				ok, wrong := carryDamaged(t, want, damage)
				runs++
				switch {
				case wrong:
					t.Errorf("damage %d at %d, direction %d: wrong content delivered as a success", kind, at, dir)
				case ok:
					passed++
				default:
					detected++
				}
			})
		}
	}
	t.Logf("%d runs: %d detected, %d right in spite of it", runs, detected, passed)
	if detected < runs/2 {
		t.Errorf("only %d of %d were detected", detected, runs)
	}
}

// carryDamaged reports whether both ends call the transfer a success, and
// whether either does so wrongly.
func carryDamaged(t *testing.T, want []byte, damage flowtest.Corruption) (ok, wrong bool) {
	l := flowtest.NewLink(flowtest.LinkConfig{Single: true})
	l.Corrupt(damage)
	a, err := NewAcceptor(Config{ResumeTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := l.Accept()
		if err == nil {
			a.Handle(c)
		}
	})
	defer func() { a.Close(); l.Close(); wg.Wait() }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	near, err := Connect(ctx, l, Config{ResumeTimeout: -1})
	if err != nil {
		return false, false
	}
	defer near.Close()
	sunk := make(chan bool, 1)
	var sunkWrong bool
	wg.Go(func() { sunk <- sinkAt0(ctx, a, want, &sunkWrong) })
	b, err := near.OpenBlocks(ctx, Open{Kind: "x", Meta: []byte("meta"), Send: true})
	sourced := err == nil && b.Start() == 0
	if sourced {
		var verdict []byte
		verdict, err = push(ctx, b, want)
		sourced = err == nil
		wrong = sourced && string(verdict) != "judged"
	}
	near.Close()
	cancel()
	sink := <-sunk
	return sourced && sink, wrong || sunkWrong || sourced && !sink
}

// sinkAt0 receives one stream from offset 0 and compares.
func sinkAt0(ctx context.Context, a *Acceptor, want []byte, wrong *bool) bool {
	far, err := a.Accept(ctx)
	if err != nil {
		return false
	}
	in, err := far.AcceptStream(ctx)
	if err != nil || !in.Blocks || !in.Send {
		return false
	}
	b, err := in.AcceptBlocks(AcceptBlocks{})
	if err != nil {
		return false
	}
	var got bytes.Buffer
	for {
		blk, err := b.Recv(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			b.Reset(err)
			return false
		}
		got.Write(blk.Data)
		blk.Release()
	}
	*wrong = !bytes.Equal(got.Bytes(), want) || string(b.Meta()) != "meta" || string(b.Trailer()) != "trailer"
	return b.Finish([]byte("judged")) == nil && !*wrong
}
