package flow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/fault"
)

// TestDamagedSessions: check 2. In each session, on a wire without TLS, one bit of one
// frame is flipped, or one frame is lost or doubled, in either direction and on any
// connection, the handshake's frames included. Nothing wrong is called a
// success, nobody waits for ever, what nobody noticed did no harm, and a block
// stream that both ends have ends only for damage to its content. For the thousand
// of the scorecard: -flow.seeds 1000.
func TestDamagedSessions(t *testing.T) {
	t.Parallel()
	var sum tally
	for i := range *simSeeds {
		seed := *simFirst + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { sum.add(t, seed) })
	}
	t.Log(sum)
	if sum.missed*10 > *simSeeds || *simSeeds >= 100 && (sum.resumed == 0 || sum.failed == 0) {
		t.Error("these runs prove little")
	}
}

// tally is what came of the runs.
type tally struct {
	resumed  int // noticed, and everything arrived
	failed   int // noticed, and some transfer ended with an error
	harmless int // not noticed
	missed   int // the frame to be harmed never came
}

func (c tally) String() string {
	return fmt.Sprintf("%d resumed and complete, %d ended with an error, %d harmless and not noticed, %d not harmed", c.resumed, c.failed, c.harmless, c.missed)
}

func (c *tally) add(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	v := &vandal{target: -1}
	synctest.Test(t, func(t *testing.T) {
		if w := runDamaged(t, seed, v); w.complaints() != "" || w.noticed() {
			t.Fatalf("without damage: %s", w.complaints())
		}
	})
	v = &vandal{target: r.IntN(v.seen), harm: harm(r.IntN(int(harms))), rnd: r}
	synctest.Test(t, func(t *testing.T) {
		w := runDamaged(t, seed, v)
		switch complaints := w.complaints(); {
		case v.harmed == "":
			c.missed++
		case !w.noticed() && complaints != "":
			t.Errorf("%s: not noticed, but %s", v.harmed, complaints)
		case !w.noticed():
			c.harmless++
		case complaints == "":
			c.resumed++
		default:
			c.failed++
		}
		if t.Failed() {
			t.Logf("%s: %s", v.harmed, w.complaints())
		}
	})
}

// wreck is one run: a session, transfers over it, and what their users were told.
type wreck struct {
	t         *testing.T
	ctx       context.Context
	near, far *Session
	err       error // why there was no session

	mu    sync.Mutex
	ends  map[string]*cargo // by Meta
	wrong []string          // what must never be
}

// cargo is what one stream carries.
type cargo struct {
	bytes       bool
	there, back []byte // back: byte streams only
	open        Open
	errs        []error // of either end
	sourced     bool    // the source had its verdict
	sunk        bool    // the sink had io.EOF and gave it
}

func (w *wreck) mistake(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

func (w *wreck) told(c *cargo, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		c.errs = append(c.errs, err)
	}
}

// complaints are the errors that users were told.
func (w *wreck) complaints() string {
	var list []string
	if w.err != nil {
		list = append(list, w.err.Error())
	}
	for name, c := range w.ends {
		for _, err := range c.errs {
			list = append(list, name+": "+err.Error())
		}
	}
	return strings.Join(list, "; ")
}

// noticed reports whether the damage came to light: by a check, a digest, the
// handshake or the keepalive.
func (w *wreck) noticed() bool {
	if w.err != nil {
		return true
	}
	for _, c := range w.ends {
		if slices.ContainsFunc(c.errs, func(err error) bool { return errors.Is(err, fault.Corrupt) }) {
			return true
		}
	}
	for _, s := range []*Session{w.near, w.far} {
		if s != nil && (s.Stats().Damaged > 0 || s.stats.losses.Load() > 0) {
			return true
		}
	}
	return false
}

// runDamaged runs the session of a seed over the vandal's link and judges it.
func runDamaged(t *testing.T, seed uint64, v *vandal) *wreck {
	v.wires = map[[2]int]*halfFrame{}
	r := rand.New(rand.NewPCG(seed, 4))
	cfg := Config{
		BlockSize: 4 * KiB << r.IntN(5), Window: 16 * KiB << r.IntN(4), PipeWindow: 16 * KiB << r.IntN(4),
		Lanes: 1 + r.IntN(3), Pool: NewPool(64 * MiB),
	}
	link := flowtest.NewLink(flowtest.LinkConfig{RTT: time.Duration(r.IntN(20)) * time.Millisecond, Single: r.IntN(3) == 0})
	link.Corrupt(v.corrupt)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	w := &wreck{t: t, ctx: ctx, ends: map[string]*cargo{}}
	w.load(r)
	a, err := NewAcceptor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup // the node
	wg.Go(func() {
		for {
			c, err := link.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { a.Handle(c) })
		}
	})
	if w.near, w.err = Connect(ctx, link, cfg); w.err == nil {
		w.far, w.err = a.Accept(ctx)
	}
	if w.err == nil {
		w.carry()
	}
	if ctx.Err() != nil {
		w.mistake("somebody waited five minutes")
	}
	if w.near != nil {
		w.near.Close()
	}
	a.Close()
	link.Close()
	wg.Wait()
	w.judge()
	if u := cfg.Pool.Used(); u != 0 {
		t.Errorf("%d bytes of the pool are still in use", u)
	}
	return w
}

// load decides what is carried.
func (w *wreck) load(r *rand.Rand) {
	for i := range 1 + r.IntN(4) {
		c := &cargo{bytes: r.IntN(4) == 0, there: make([]byte, r.IntN(4*KiB<<r.IntN(7)))}
		if r.IntN(3) > 0 { // otherwise zeros, which compress
			rand.NewChaCha8([32]byte{byte(i), byte(r.Uint32())}).Read(c.there)
		}
		if c.bytes {
			c.back = content(r.IntN(100_000))
		}
		c.open = Open{Kind: "x", Meta: fmt.Appendf(nil, "stream %d of this session", i), Send: r.IntN(2) == 0, Compress: Compression(r.IntN(4))}
		w.ends[string(c.open.Meta)] = c
	}
}

// carry opens every stream, at one end or the other, and waits for all users.
func (w *wreck) carry() {
	ends := []*Session{w.near, w.far}
	accepting, stop := context.WithCancel(w.ctx)
	var openers, acceptors sync.WaitGroup
	for _, s := range ends {
		acceptors.Go(func() { w.serve(accepting, s) })
	}
	for i, name := range slices.Sorted(maps.Keys(w.ends)) {
		openers.Go(func() { w.open(ends[i%2], w.ends[name]) })
	}
	openers.Wait()
	settle() // an OPEN may still be under way
	stop()
	acceptors.Wait()
}

// serve answers what the other end opens, and waits for those answers' users.
func (w *wreck) serve(ctx context.Context, s *Session) {
	var answers sync.WaitGroup
	defer answers.Wait()
	for {
		in, err := s.AcceptStream(ctx)
		if err != nil {
			return
		}
		answers.Go(func() { w.answer(in) })
	}
}

const answerMeta = "as agreed"

func (w *wreck) open(s *Session, c *cargo) {
	if c.bytes {
		b, err := s.OpenBytes(w.ctx, c.open)
		if err != nil {
			w.told(c, err)
			return
		}
		w.meta(b.Meta())
		w.converse(b, c, c.there, c.back)
		return
	}
	b, err := s.OpenBlocks(w.ctx, c.open)
	if err != nil {
		w.told(c, err)
		return
	}
	w.meta(b.Meta())
	w.end(b, c, c.open.Send)
	if err := b.Err(); err != nil && !errors.Is(err, fault.Corrupt) {
		w.mistake("a block stream that both ends had did not outlive the damage: %v", err)
	}
}

func (w *wreck) meta(m []byte) {
	if string(m) != answerMeta {
		w.mistake("ACCEPT came with %q", m)
	}
}

func (w *wreck) answer(in *Incoming) {
	c := w.ends[string(in.Meta)]
	if c == nil || c.bytes == in.Blocks || c.open.Send != in.Send && in.Blocks {
		w.mistake("OPEN came with %q, %v", in.Meta, in.Open)
		in.Refuse(nil)
		return
	}
	if c.bytes {
		b, err := in.AcceptBytes([]byte(answerMeta))
		if err == nil {
			w.converse(b, c, c.back, c.there)
		}
		w.told(c, err)
		return
	}
	b, err := in.AcceptBlocks(AcceptBlocks{Start: -1, Meta: []byte(answerMeta), Compress: c.open.Compress})
	if err == nil {
		w.end(b, c, !in.Send)
	}
	w.told(c, err)
}

// end drives one end of a block stream.
func (w *wreck) end(b *BlockStream, c *cargo, source bool) {
	if source {
		v, err := push(w.ctx, b, c.there)
		if err != nil {
			b.Reset(err)
		} else if string(v) != "ok" {
			w.mistake("the verdict is %q", v)
		}
		c.sourced = err == nil
		w.told(c, err)
		return
	}
	got, err := pull(w.ctx, b)
	if err != nil {
		b.Reset(err)
	} else if !bytes.Equal(got, c.there) || string(b.Trailer()) != "trailer" {
		w.mistake("wrong content called a success: %d bytes of %d, trailer %q", len(got), len(c.there), b.Trailer())
	}
	c.sunk = err == nil
	w.told(c, err)
}

// converse drives one end of a byte stream.
func (w *wreck) converse(b *ByteStream, c *cargo, mine, theirs []byte) {
	defer context.AfterFunc(w.ctx, func() { b.Close() })()
	written := make(chan error, 1)
	go func() {
		_, err := b.Write(mine)
		if err == nil {
			err = b.CloseWrite()
		}
		written <- err
	}()
	got, err := io.ReadAll(b)
	if !bytes.HasPrefix(theirs, got) {
		w.mistake("wrong bytes: %d of %d, then %v", len(got), len(theirs), err)
	}
	if err == nil && len(got) != len(theirs) {
		w.mistake("an end after %d bytes of %d", len(got), len(theirs))
	}
	w.told(c, err)
	w.told(c, <-written)
	b.Close()
}

// judge looks for what must never be.
func (w *wreck) judge() {
	for name, c := range w.ends {
		if c.sourced && !c.sunk {
			w.mistake("%s: success at the source and not at the sink", name)
		}
		for _, err := range c.errs {
			w.honest(err)
		}
	}
	w.honest(w.err)
	for _, s := range []*Session{w.near, w.far} {
		if s == nil {
			continue
		}
		w.honest(s.Err())
		if g := s.Stats().Granted; g != 0 {
			w.mistake("%d bytes are still granted", g)
		}
	}
	for _, m := range w.wrong {
		w.t.Error(m)
	}
}

// honest: damage is never taken for a peer's violation or a defect here.
func (w *wreck) honest(err error) {
	if err == nil {
		return
	}
	switch fault.KindOf(err) {
	case fault.Protocol, fault.Internal, fault.Invalid, fault.Overloaded:
		w.wrong = append(w.wrong, "blamed on the wrong one: "+err.Error())
	}
}
