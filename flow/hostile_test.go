package flow

import (
	"context"
	"io"
	"testing"
	"testing/synctest"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// setup is the stream that a duel begins with.
type setup int

const (
	none     setup = iota
	sink           // the raw peer opened it and sends; the victim receives until it ends
	source         // the raw peer opened it and receives; the victim has sent one block of 64 KiB
	relay          // a byte stream that the raw peer opened; the victim has written 5 bytes and reads
	kept           // the same, with Resume
	mysink         // the victim opens a block stream to receive and waits for ACCEPT
	mysource       // the victim opens a block stream to send and waits for ACCEPT
	setupsEnd
)

const testBlock = 64 * KiB

// prepare makes the stream of a setup.
func (d *duel) prepare(s setup) {
	ctx := d.t.Context()
	switch s {
	case sink, source:
		d.id = d.own(1)
		d.send(openFrame(d.id, wire.Open{Blocks: true, Send: s == sink, BlockSize: testBlock, Window: 256 * KiB}))
		in, err := d.victim.AcceptStream(ctx)
		if err == nil {
			d.blocks, err = in.AcceptBlocks(AcceptBlocks{Start: -1})
		}
		if err != nil {
			d.t.Fatal(err)
		}
		d.wg.Go(func() { d.use(ctx, s) })
	case relay, kept:
		d.id = d.own(1)
		d.send(openFrame(d.id, wire.Open{Window: 64 * KiB, Resume: s == kept}))
		in, err := d.victim.AcceptStream(ctx)
		if err == nil {
			d.bytes, err = in.AcceptBytes(nil)
		}
		if err != nil {
			d.t.Fatal(err)
		}
		d.bytes.Write([]byte("hello"))
		d.wg.Go(func() { _, err := io.Copy(io.Discard, d.bytes); d.ended <- err })
	case mysink, mysource:
		d.id = d.foreign(1)
		d.wg.Go(func() {
			b, err := d.victim.OpenBlocks(ctx, Open{Kind: "x", Send: s == mysource, BlockSize: testBlock})
			if err == nil {
				<-b.Done()
				err = b.Err()
			}
			d.ended <- err
		})
	}
	settle()
}

// use drives the victim's end of a block stream.
func (d *duel) use(ctx context.Context, s setup) {
	if s == sink {
		_, err := pull(ctx, d.blocks)
		d.ended <- err
		return
	}
	blk, err := d.blocks.Next(ctx)
	if err == nil {
		err = d.blocks.Send(ctx, blk, copy(blk.Data, content(testBlock)))
	}
	if err == nil {
		select {
		case <-d.blocks.Done():
			err = d.blocks.Err()
		case <-ctx.Done():
		}
	}
	d.ended <- err
}

// streamKind is what the victim's user was told of its stream; 0: nothing yet.
func (d *duel) streamKind() fault.Kind {
	select {
	case err := <-d.ended:
		if err == nil {
			return 0
		}
		return fault.KindOf(err)
	default:
		return 0
	}
}

// hostile is one behaviour of a peer and what has to come of it.
type hostile struct {
	name   string
	setup  setup
	cfg    Config
	attack func(d *duel)

	session fault.Kind // the session ends with this; 0: it goes on
	stream  fault.Kind // the stream's user is told this; 0: not looked at
	check   func(d *duel)
}

func TestHostilePeer(t *testing.T) {
	t.Parallel()
	var all []hostile
	for _, part := range [][]hostile{hostileFrames, hostileOpens, hostileSources, hostileSinks, hostileBytes, hostileAnswers, hostileFloods, hostileChecks()} {
		all = append(all, part...)
	}
	for _, asConnector := range []bool{true, false} {
		role := map[bool]string{true: "connector", false: "acceptor"}[asConnector]
		for _, h := range all {
			t.Run(role+"/"+h.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { h.run(t, asConnector) })
			})
		}
	}
}

func (h hostile) run(t *testing.T, asConnector bool) {
	cfg := h.cfg
	if cfg.ResumeTimeout == 0 {
		cfg.ResumeTimeout = -1
	}
	d := newDuel(t, asConnector, cfg)
	defer d.end()
	d.prepare(h.setup)
	h.attack(d)
	settle()
	err := d.victim.Err()
	if (err == nil) != (h.session == 0) || err != nil && fault.KindOf(err) != h.session {
		t.Errorf("the session ended with %v; want %v", err, h.session)
	}
	if (h.session == fault.Protocol || h.session == fault.Corrupt) && h.setup != none && h.stream == 0 {
		h.stream = h.session
	}
	if h.stream != 0 {
		if k := d.streamKind(); k != h.stream {
			t.Errorf("the stream ended with %v; want %v", k, h.stream)
		}
	}
	if h.session == 0 && d.hungUp() {
		t.Errorf("the connection was closed: %v", d.over)
	}
	if h.session != 0 && !d.hungUp() {
		t.Error("the connection is still open")
	}
	if h.check != nil {
		h.check(d)
	}
}

// TestAbortsOfABusyPeer: streams that fail at their opener after they were
// accepted are a busy peer's business, up to a limit; the session goes on.
func TestAbortsOfABusyPeer(t *testing.T) {
	for n, want := range map[uint32]fault.Kind{5000: 0, 11000: fault.Overloaded} {
		synctest.Test(t, func(t *testing.T) {
			d := newDuel(t, true, Config{ResumeTimeout: -1})
			defer d.end()
			for i := range n {
				id := d.own(i + 1)
				d.send(openFrame(id, wire.Open{Blocks: true, Send: true, BlockSize: testBlock}))
				in, err := d.victim.AcceptStream(t.Context())
				if err != nil {
					break
				}
				if _, err := in.AcceptBlocks(AcceptBlocks{Start: -1}); err != nil {
					break
				}
				d.send(resetFrame(id, fault.New("x", fault.NoSpace, "full")))
			}
			settle()
			if err := d.victim.Err(); (err == nil) != (want == 0) || err != nil && fault.KindOf(err) != want {
				t.Errorf("%d streams: the session ended with %v, want %v", n, err, want)
			}
		})
	}
}

// TestUnreadIsHeld: what a peer has sent to a reader that takes nothing stays in the books after the peer has
// ended the stream, however it does that, until it is read or the stream is closed here.
func TestUnreadIsHeld(t *testing.T) {
	for _, resume := range []bool{false, true} {
		for _, polite := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				d := newDuel(t, true, Config{SessionBudget: MiB})
				defer d.end()
				var why error
				if !polite {
					why = fault.New("x", fault.Canceled, "no")
				}
				var streams []*ByteStream
				held := 0
				for n := range uint32(20) {
					id := d.own(n + 1)
					b := d.opened(id, wire.Open{Window: KiB, Resume: resume})
					b.CloseWrite()
					d.send(data(id, 0, content(int(b.window)), wire.Fin), resetFrame(id, why))
					settle()
					streams, held = append(streams, b), held+int(b.window)
					if s := d.victim.Stats(); s.Streams != 0 || s.Granted != held || held > MiB+int(n)*windowLeast {
						t.Fatalf("stream %d: %d are open, %d bytes are in the books and %d are held", n, s.Streams, s.Granted, held)
					}
				}
				if got, err := io.ReadAll(streams[0]); len(got) != 256*KiB || err != nil {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if g := d.victim.Stats().Granted; g != held-256*KiB {
					t.Errorf("%d bytes of %d are in the books after 256 KiB were read", g, held)
				}
				streams[1].Read(make([]byte, 100))
				for _, b := range streams {
					b.Close()
					b.Close()
				}
				if g := d.victim.Stats().Granted; g != 0 {
					t.Errorf("%d bytes are in the books after all", g)
				}
			})
		}
	}
}

// TestFriendlyAborts: an end that only looks polite is one of the aborts, which are limited.
func TestFriendlyAborts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, true, Config{ResumeTimeout: -1})
		defer d.end()
		for i := range uint32(11000) {
			id := d.own(i + 1)
			d.send(openFrame(id, wire.Open{}))
			in, err := d.victim.AcceptStream(t.Context())
			if err != nil {
				break
			}
			if _, err := in.AcceptBytes(nil); err != nil {
				break
			}
			d.send(resetFrame(id, nil))
		}
		settle()
		if err := d.victim.Err(); fault.KindOf(err) != fault.Overloaded {
			t.Errorf("the session ended with %v", err)
		}
	})
}

// TestCloseOfNoKind: a session that the peer closes without a reason ends no byte stream politely.
func TestCloseOfNoKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuel(t, true, Config{ResumeTimeout: -1})
		defer d.end()
		d.prepare(relay)
		d.send(control(wire.TypeClose, 0, &wire.Close{}))
		settle()
		if k := d.streamKind(); k != fault.Lost {
			t.Errorf("the stream ended with %v", k)
		}
	})
}

// opened is a byte stream that the attacker opens and the victim accepts.
func (d *duel) opened(id uint32, o wire.Open) *ByteStream {
	d.t.Helper()
	d.send(openFrame(id, o))
	in, err := d.victim.AcceptStream(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	b, err := in.AcceptBytes(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}
