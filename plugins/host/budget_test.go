package host

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
)

// TestBudget: pauses double from 0.2 s to 30 s, five crashes in a minute are enough for
// one, and a life of a minute makes them forgotten.
func TestBudget(t *testing.T) {
	now := time.Unix(1e9, 0)
	var b budget
	if wait, may := b.next(now); wait != 0 || !may {
		t.Error("before any crash", wait, may)
	}
	for i, want := range []time.Duration{200, 400, 800, 1600} {
		b.crashed(now, 0)
		if wait, may := b.next(now); wait != want*time.Millisecond || !may {
			t.Errorf("after crash %d: %v, %v", i+1, wait, may)
		}
		now = now.Add(time.Second)
	}
	b.crashed(now, 0)
	if wait, may := b.next(now.Add(10 * time.Second)); wait != 50*time.Second || may {
		t.Error("after the fifth", wait, may)
	}
	if _, may := b.next(now.Add(crashTime)); !may {
		t.Error("a minute later it may not be started")
	}
	for range 10 {
		now = now.Add(20 * time.Second) // not five within a minute
		b.crashed(now, time.Second)
	}
	if wait, may := b.next(now); wait != mostPause || !may {
		t.Error("crashes that are apart", wait, may)
	}
	b.crashed(now.Add(time.Hour), time.Hour)
	if wait, may := b.next(now.Add(time.Hour)); wait != firstPause || !may {
		t.Error("after a long life", wait, may)
	}
}

// TestCombine: each set of capabilities has its interfaces and no other.
func TestCombine(t *testing.T) {
	for set := range 128 {
		bit := func(i int) bool { return set&(1<<i) != 0 }
		can := plugins.Capabilities{Write: bit(0), List: bit(1), Rename: bit(2), Remove: bit(3), Mkdir: bit(4), Copy: bit(6)}
		if bit(5) {
			can.Checksums = []string{"md5"}
		}
		s := combine(&session{can: can})
		_, write := s.(plugins.Writer)
		_, list := s.(plugins.Lister)
		_, rename := s.(plugins.Renamer)
		_, remove := s.(plugins.Remover)
		_, mkdir := s.(plugins.Maker)
		_, sums := s.(plugins.Checksummer)
		_, cp := s.(plugins.Copier)
		_, limit := s.(plugins.Limiter)
		if write != bit(0) || list != bit(1) || rename != bit(2) || remove != bit(3) || mkdir != bit(4) || sums != bit(5) || cp != bit(6) || !limit {
			t.Errorf("set %b: %T", set, s)
		}
	}
}

// FuzzParse: no line of a plugin ends its host, or comes out as what is not text.
func FuzzParse(f *testing.F) {
	for _, line := range []string{`{"@message":1}`, `{"@message":"a","@level":"warn"}`, `{"msg":"a","level":"ERROR+2","x":{"y":[1]}}`, "[WARN] a", "panic: x", "{", "\xff"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		s := &said{log: slog.New(slog.DiscardHandler)}
		lines(strings.NewReader(string(line)), s.line)
		if _, text, _ := parse(append([]byte("x"), line...)); text == "" {
			t.Error("nothing is left")
		}
	})
}

// TestLines: a line without an end is cut, and nothing after it is lost.
func TestLines(t *testing.T) {
	var got []int
	lines(strings.NewReader(strings.Repeat("x", 320<<10)+"\nab\r\n\nc"), func(line []byte) { got = append(got, len(line)) })
	if len(got) != 3 || got[0] != maxLine || got[1] != 2 || got[2] != 1 {
		t.Error(got)
	}
}
