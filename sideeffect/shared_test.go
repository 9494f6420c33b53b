package sideeffect

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pannier/pannier/spec/fault"
)

// readAll reads a source by blocks of size bytes.
func readAll(s Source, size int) ([]byte, error) {
	var all []byte
	p := make([]byte, size)
	for {
		n, err := s.ReadBlock(p, int64(len(all)))
		all = append(all, p[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

func TestSharedReadsOnce(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	for _, n := range []int{0, 1, pieceSize, pieceSize + 1, 9*pieceSize + 5} {
		b := content(n)
		write(t, dir, "src", b)
		for _, id := range []Identity{File(root, "src"), Reader(bytes.NewReader(b), int64(n)), Reader(bytes.NewReader(b), -1)} {
			// The cache holds everything, so each byte is read once whatever the order.
			shared := Shared(id, int64(n+pieceSize))
			readTogether(t, shared, b, 5)
			if shared.ReadBytes() != int64(n) {
				t.Errorf("%v of %d bytes: read %d", id, n, shared.ReadBytes())
			}
		}
	}
}

func readTogether(t *testing.T, shared *SharedIdentity, b []byte, n int) {
	t.Helper()
	sources := make([]Source, n)
	for i := range sources {
		var err error
		sources[i], err = shared.OpenSource(SourceSpec{})
		noError(t, err)
	}
	var all sync.WaitGroup
	for i, s := range sources {
		all.Go(func() {
			defer s.Close()
			if got, err := readAll(s, 1000*(i+1)+i); err != nil || !bytes.Equal(got, b) {
				t.Errorf("source %d: %s, %v", i, short(got), err)
			}
			if err := s.Check(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// One source that does not move does not stall the others; it reads again.
func TestSharedLaggard(t *testing.T) {
	t.Parallel()
	b := content(20 * pieceSize)
	shared := Shared(Memory(b), 0)
	lag, _ := shared.OpenSource(SourceSpec{})
	defer lag.Close()
	if _, err := lag.ReadBlock(make([]byte, 10), 0); err != nil {
		t.Fatal(err)
	}
	before := shared.ReadBytes()
	readTogether(t, shared, b, 1)
	if n := shared.ReadBytes() - before; n != int64(len(b)) {
		t.Errorf("the leader made %d bytes be read", n)
	}
	if got, err := readAll(lag, 4096); err != nil || !bytes.Equal(got, b) {
		t.Errorf("laggard: %s, %v", short(got), err)
	}
}

// A reader cannot be read again: the first waits for the last.
func TestSharedReaderWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := content(20 * pieceSize)
		shared := Shared(Reader(bytes.NewReader(b), -1), 0)
		lag, _ := shared.OpenSource(SourceSpec{})
		lead, _ := shared.OpenSource(SourceSpec{})
		defer lag.Close()
		defer lead.Close()
		done := make(chan []byte)
		go func() {
			got, _ := readAll(lead, pieceSize)
			done <- got
		}()
		synctest.Wait()
		if n := shared.ReadBytes(); n != minSharedPieces*pieceSize {
			t.Errorf("%d bytes were read ahead", n)
		}
		got, err := readAll(lag, 3000)
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("laggard: %s, %v", short(got), err)
		}
		if got := <-done; !bytes.Equal(got, b) {
			t.Errorf("leader: %s", short(got))
		}
	})
}

// A member that is interrupted, or closed, no longer holds the others up.
func TestSharedInterrupt(t *testing.T) {
	t.Parallel()
	for _, leave := range []func(Source){func(s Source) { s.(Interrupter).Interrupt() }, func(s Source) { s.Close() }} {
		synctest.Test(t, func(t *testing.T) {
			b := content(20 * pieceSize)
			shared := Shared(Reader(bytes.NewReader(b), -1), 0)
			lag, _ := shared.OpenSource(SourceSpec{})
			lead, _ := shared.OpenSource(SourceSpec{})
			done := make(chan []byte)
			go func() {
				got, _ := readAll(lead, pieceSize)
				done <- got
			}()
			synctest.Wait()
			leave(lag)
			if got := <-done; !bytes.Equal(got, b) {
				t.Errorf("leader: %s", short(got))
			}
			lead.Close()
			lag.Close()
		})
	}
}

func TestSharedWaitEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := Shared(Reader(bytes.NewReader(content(20*pieceSize)), -1), 0)
		lag, _ := shared.OpenSource(SourceSpec{})
		lead, _ := shared.OpenSource(SourceSpec{})
		done := make(chan error)
		go func() {
			_, err := readAll(lead, pieceSize)
			done <- err
		}()
		synctest.Wait()
		lead.(Interrupter).Interrupt()
		wantKind(t, <-done, fault.Canceled)
		lead.Close()
		lag.Close()
	})
}

// Fan-out as it is used: several pumps, one of them resumed far ahead.
func TestSharedPumps(t *testing.T) {
	t.Parallel()
	b := content(12 * pieceSize)
	shared := Shared(Memory(b), 4*pieceSize)
	var all sync.WaitGroup
	sources := make([]Source, 4)
	for i := range sources {
		sources[i], _ = shared.OpenSource(SourceSpec{})
	}
	for i, src := range sources {
		all.Go(func() {
			var got bytes.Buffer
			start := int64(0)
			if i == 0 {
				start = 8 * pieceSize
				got.Write(b[:start])
			}
			l := newLink(start, [16]byte{}, testBlock)
			sink := &offsetSink{start: start, b: &got}
			r := run(context.Background(), l, src, SendPlan{Start: start, Quota: NoQuota, Limit: NoQuota}, sink, ReceivePlan{Quota: NoQuota})
			if r.sendErr != nil || !bytes.Equal(got.Bytes(), b) {
				t.Error(fmt.Sprint(i, r.sendErr, r.storeErr, short(got.Bytes())))
			}
		})
	}
	all.Wait()
}

// offsetSink takes blocks from start on, like a sink that was resumed.
type offsetSink struct {
	start int64
	b     *bytes.Buffer
}

func (s *offsetSink) WriteBlock(p []byte, _ int64) error { s.b.Write(p); return nil }
func (s *offsetSink) Sync() (int64, error)               { return int64(s.b.Len()), nil }
func (s *offsetSink) Commit() error                      { return nil }
func (s *offsetSink) Abort(bool) error                   { return nil }
func (s *offsetSink) Offset() int64                      { return 0 }
func (s *offsetSink) Close() error                       { return nil }
func (s *offsetSink) Keep(ResumePoint) error             { return nil }
func (s *offsetSink) Resumed() ResumePoint {
	return ResumePoint{Offset: s.start}
}

// slowOpening opens when it is told, once for each.
type slowOpening struct {
	Identity
	opens chan error
}

func (i slowOpening) OpenSource(spec SourceSpec) (Source, error) {
	if err := <-i.opens; err != nil {
		return nil, err
	}
	return i.Identity.OpenSource(spec)
}

// TestSharedOpening: who waits for the first to open does so as long as its own opening may take, and
// opens by itself if the first could not.
func TestSharedOpening(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		id := slowOpening{Memory(content(10)), make(chan error)}
		shared := Shared(id, 0)
		type opened struct {
			Source
			error
		}
		open := func(ctx context.Context) chan opened {
			c := make(chan opened, 1)
			go func() {
				s, err := shared.OpenSource(SourceSpec{Opening: ctx})
				c <- opened{s, err}
			}()
			synctest.Wait()
			return c
		}
		ctx, cancel := context.WithCancel(t.Context())
		first, hasty, patient, fourth := open(nil), open(ctx), open(nil), open(t.Context())
		cancel()
		if o := <-hasty; fault.KindOf(o.error) != fault.Canceled {
			t.Errorf("who waits no longer has %v, %v", o.Source, o.error)
		}
		broken := fault.New("open", fault.NotFound, "it is not there")
		id.opens <- broken
		if o := <-first; o.error != broken {
			t.Errorf("the first has %v, %v", o.Source, o.error)
		}
		id.opens <- nil // one of the others
		for _, c := range []chan opened{patient, fourth} {
			o := <-c
			if o.error != nil {
				t.Fatal(o.error)
			}
			if got, err := readAll(o.Source, 3); err != nil || !bytes.Equal(got, content(10)) {
				t.Errorf("%s, %v", short(got), err)
			}
			defer o.Close()
		}
	})
}
