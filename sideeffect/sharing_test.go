package sideeffect

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// countingLayer is the system's, and counts what sources read.
type countingLayer struct {
	Layer
	bytes atomic.Int64
}

func (c *countingLayer) Reads(f *os.File) io.ReaderAt { return countingReads{f, &c.bytes} }

type countingReads struct {
	io.ReaderAt
	bytes *atomic.Int64
}

func (r countingReads) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, off)
	r.bytes.Add(int64(n))
	return n, err
}

// party is sources of one file that read at different speeds, in a bubble.
type party struct {
	t       *testing.T
	sharing *Sharing
	layer   countingLayer
	root    *os.Root
	dir     string
	content []byte
	all     sync.WaitGroup
}

// newParty has a file of so many pieces, and windows of so many.
func newParty(t *testing.T, file, window int) *party {
	p := &party{t: t, sharing: NewSharing(int64(window) * mostShared * pieceSize), content: content(file*pieceSize - 100)}
	p.layer.Layer = osLayer{}
	p.root, p.dir = newRoot(t)
	write(t, p.dir, "src", p.content)
	return p
}

func (p *party) open(others int) Source {
	s, err := p.sharing.Of(FileOn(&p.layer, p.root, "src"), others).OpenSource(SourceSpec{})
	noError(p.t, err)
	return s
}

// read reads all of a source, a piece in each period, and notes how long that takes.
func (p *party) read(s Source, period time.Duration, took *time.Duration) {
	p.all.Go(func() {
		defer s.Close()
		began := time.Now()
		block := make([]byte, pieceSize)
		for off := 0; off < len(p.content); {
			n, err := s.ReadBlock(block, int64(off))
			if err != nil && err != io.EOF || n == 0 || !bytes.Equal(block[:n], p.content[off:off+n]) {
				p.t.Errorf("%d bytes at %d, %v", n, off, err)
				return
			}
			off += n
			time.Sleep(period)
		}
		if err := s.Check(); err != nil {
			p.t.Error(err)
		}
		if took != nil {
			*took = time.Since(began)
		}
	})
}

// times is how often the file was read, in hundredths.
func (p *party) times() int { return int(p.layer.bytes.Load() * 100 / int64(len(p.content))) }

// over wants that all memory is given back.
func (p *party) over(window int) {
	p.all.Wait()
	if n := p.sharing.room.free.Load(); n != int64(window*mostShared) {
		p.t.Errorf("room for %d pieces is left of %d", n, window*mostShared)
	}
	if len(p.sharing.files) != 0 {
		p.t.Errorf("%d windows are left", len(p.sharing.files))
	}
	if p.sharing.ReadBytes() != p.layer.bytes.Load() {
		p.t.Errorf("%d bytes were read, and %d counted", p.layer.bytes.Load(), p.sharing.ReadBytes())
	}
}

// TestSharingReadsOnce: sources that are not the same speed, but no more than twice as slow as
// each other, read a file once that is many times the window.
func TestSharingReadsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 200, 8)
		for i := range 8 {
			p.read(p.open(7), time.Duration(10+i)*time.Millisecond, nil)
		}
		p.over(8)
		if p.times() != 99 && p.times() != 100 {
			t.Errorf("the file was read %d%%", p.times())
		}
	})
}

// TestSharingExpects: the first of several waits a while for the others.
func TestSharingExpects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		others int
		late   time.Duration
		once   bool
	}{{3, time.Second, true}, {0, time.Second, false}, {3, 10 * time.Second, false}} {
		synctest.Test(t, func(t *testing.T) {
			p := newParty(t, 200, 8)
			for i := range 4 {
				if i > 0 {
					time.Sleep(c.late / 3)
				}
				p.read(p.open(c.others), 5*time.Millisecond, nil)
			}
			p.over(8)
			if once := p.times() <= 100; once != c.once {
				t.Errorf("%d others, %v late: read %d%%", c.others, c.late, p.times())
			}
		})
	}
}

// TestSharingSlow: whoever is ten times slower, or does not move at all, costs the others a few
// seconds, and the file is read once more for it.
func TestSharingSlow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		slow time.Duration
		most time.Duration
	}{{100 * time.Millisecond, 12 * time.Second}, {time.Hour, aliveFor}} {
		synctest.Test(t, func(t *testing.T) {
			p := newParty(t, 1000, 8)
			took := make([]time.Duration, 7)
			for i := range took {
				p.read(p.open(7), 10*time.Millisecond, &took[i])
			}
			p.read(p.open(7), c.slow, nil)
			p.over(8)
			for i, d := range took {
				if more := d - 10*time.Second; more > c.most {
					t.Errorf("%v: source %d took %v longer than alone", c.slow, i, more)
				}
			}
			if p.times() > 200 {
				t.Errorf("%v: read %d%%", c.slow, p.times())
			}
		})
	}
}

// TestSharingCohorts: several that are equally slow share what they read, too.
func TestSharingCohorts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 500, 16)
		for i := range 8 {
			period := time.Duration(100+i) * 100 * time.Microsecond
			if i >= 4 {
				period *= 20
			}
			p.read(p.open(7), period, nil)
		}
		p.over(16)
		if p.times() > 215 {
			t.Errorf("two groups have read %d%%", p.times())
		}
	})
}

// TestSharingVersions: another version is another content, though the name is the same, and
// nothing is kept of a file that nobody reads.
func TestSharingVersions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 20, 8)
		old := p.open(1)
		if _, err := old.ReadBlock(make([]byte, pieceSize), 0); err != nil {
			t.Fatal(err)
		}
		noError(t, os.Rename(filepath.Join(p.dir, "src"), filepath.Join(p.dir, "old")))
		was := p.content
		p.content = content(20*pieceSize - 7)
		write(t, p.dir, "src", p.content)
		p.read(p.open(1), time.Millisecond, nil)
		p.all.Wait()
		if got, err := readAll(old, 5000); err != nil || !bytes.Equal(got, was) {
			t.Errorf("%s, %v", short(got), err)
		}
		old.Close()
		p.over(8)
	})
}

// TestSharingRoom: windows of many files share the memory, and nobody is held up without any.
func TestSharingRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 40, 4)
		for i := range 5 {
			name := fmt.Sprint("src", i)
			write(t, p.dir, name, p.content)
			for range 3 {
				s, err := p.sharing.Of(FileOn(&p.layer, p.root, name), 2).OpenSource(SourceSpec{})
				noError(t, err)
				p.read(s, 10*time.Millisecond, nil)
			}
		}
		p.over(4)
	})
}

// TestSharingInterrupt: whoever is interrupted waits for nobody, and nobody for it.
func TestSharingInterrupt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 200, 4)
		stuck := p.open(1)
		lead := p.open(1)
		began := time.Now()
		p.read(lead, time.Millisecond, nil)
		time.Sleep(500 * time.Millisecond)
		stuck.(Interrupter).Interrupt()
		p.all.Wait()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it was held up for %v", took)
		}
		stuck.Close()
		p.over(4)
	})
}
