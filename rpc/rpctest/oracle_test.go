package rpctest

import (
	"bytes"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestExpect is the oracle against cases that were worked out by hand.
func TestExpect(t *testing.T) {
	up := Case{Direction: sideeffect.ClientToServer, Size: 100, Random: true}
	with := func(change func(*Case)) Case { c := up; change(&c); return c }
	for _, c := range []struct {
		name  string
		c     Case
		kinds []fault.Kind
		moved int64
		road  sideeffect.Road
	}{
		{"plain", up, nil, 100, sideeffect.RoadInline},
		{"middle", with(func(c *Case) { c.SourceOffset = Inside }), nil, 50, sideeffect.RoadInline},
		{"end", with(func(c *Case) { c.SourceOffset = AtEnd }), nil, 0, sideeffect.RoadInline},
		{"beyond", with(func(c *Case) { c.SourceOffset = Beyond }), []fault.Kind{fault.Invalid}, 0, sideeffect.RoadInline},
		{"reader", with(func(c *Case) { c.Source, c.SourceOffset = FromReader, Inside }), []fault.Kind{fault.Invalid}, 50, sideeffect.RoadInline},
		{"unsized", with(func(c *Case) { c.Source = FromStream }), nil, 100, sideeffect.RoadSession},
		{"large", with(func(c *Case) { c.Size = 16<<10 + 1 }), nil, 16<<10 + 1, sideeffect.RoadSession},
		{"large inline", with(func(c *Case) { c.Size, c.Road = 16<<10+1, sideeffect.RoadInline }), []fault.Kind{fault.Invalid}, 16<<10 + 1, sideeffect.RoadInline},
		{"fail", with(func(c *Case) { c.SinkQuota = Less }), []fault.Kind{fault.QuotaExceeded}, 100, sideeffect.RoadInline},
		{"cut", with(func(c *Case) { c.SinkQuota, c.SinkOver = Less, sideeffect.Cut }), nil, 50, sideeffect.RoadInline},
		{"cut twice", with(func(c *Case) {
			c.SinkQuota, c.SinkOver, c.SourceQuota, c.SourceOver = Less, sideeffect.Cut, Least, sideeffect.Cut
		}), nil, 25, sideeffect.RoadInline},
		{"cut and fail", with(func(c *Case) { c.SinkQuota, c.SourceQuota, c.SourceOver = Less, Less, sideeffect.Cut }), []fault.Kind{fault.QuotaExceeded}, 100, sideeffect.RoadInline},
		{"fail and cut", with(func(c *Case) { c.SourceQuota, c.SinkQuota, c.SinkOver = Less, Least, sideeffect.Cut }), []fault.Kind{fault.QuotaExceeded}, 100, sideeffect.RoadInline},
		{"exists", with(func(c *Case) { c.Mode, c.Before = sideeffect.CreateNew, Short }), []fault.Kind{fault.Exists}, 100, sideeffect.RoadInline},
		{"fd", with(func(c *Case) { c.Sink = ToFD }), []fault.Kind{fault.Invalid}, 100, sideeffect.RoadInline},
		{"offset", with(func(c *Case) { c.SinkOffset = Inside }), []fault.Kind{fault.Invalid}, 100, sideeffect.RoadInline},
		{"small", with(func(c *Case) { c.Sink = ToSmall }), []fault.Kind{fault.NoSpace}, 100, sideeffect.RoadInline},
	} {
		x := Expect(c.c, false)
		var kinds []fault.Kind
		for _, r := range x.Reasons {
			kinds = append(kinds, r.Kind)
		}
		if !slices.Equal(kinds, c.kinds) || x.Moved != c.moved || x.Road != c.road {
			t.Errorf("%s: %+v, want %v, %d bytes, %v", c.name, x, c.kinds, c.moved, c.road)
		}
	}
}

// TestSameOnEveryRoad: unless a road is refused, it changes neither what moves
// nor why not.
func TestSameOnEveryRoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := make([]int, 0, 18)
		for i, n := range dimensions() {
			row = append(row, rapid.IntRange(0, n-1).Draw(t, string(rune('a'+i))))
		}
		row[colAwait] = 0
		a := caseOf(sideeffect.RoadSession, row)
		b := caseOf(sideeffect.RoadInline, row)
		if n := max(0, int64(a.Size)-a.sourceOffset()); !b.fits(n) {
			return
		}
		x, y := Expect(a, false), Expect(b, false)
		if x.Moved != y.Moved || x.Exceeded != y.Exceeded || len(x.Reasons) != len(y.Reasons) || x.Left != y.Left {
			t.Fatalf("%v\nsession %+v\ninline %+v", a, x, y)
		}
		for i := range x.Reasons {
			if x.Reasons[i].Kind != y.Reasons[i].Kind {
				t.Fatalf("%v\nsession %+v\ninline %+v", a, x, y)
			}
		}
	})
}

func TestAfter(t *testing.T) {
	before := State{true, []byte("abcdefghijkl")}
	c := Case{Before: Short, Mode: sideeffect.AtOffset, SinkOffset: Inside}
	for _, w := range []struct {
		mode sideeffect.Mode
		want string
	}{
		{sideeffect.Replace, "XY"}, {sideeffect.Truncate, "XY"}, {sideeffect.Append, "abcdefghijklXY"}, {sideeffect.AtOffset, "abcdefgXYjkl"},
	} {
		c.Mode = w.mode
		if got := After(c, before, []byte("XY")); string(got.Content) != w.want {
			t.Errorf("%v: %q, want %q", w.mode, got.Content, w.want)
		}
	}
	if got := overlay([]byte("ab"), []byte("X"), 4); !bytes.Equal(got, []byte("ab\x00\x00X")) {
		t.Errorf("a gap is %q", got)
	}
}

// TestCovering: every tuple that is allowed occurs, none that is not, in a
// small fraction of the product.
func TestCovering(t *testing.T) {
	allowed := func(row []int) bool { return row[0]+row[1] != 3 }
	sizes := []int{2, 7, 8, 5, 3, 12}
	for strength, most := range map[int]int{2: 250, 3: 1600} {
		seen := map[tuple]bool{}
		rows := covering(sizes, strength, allowed)
		for _, r := range rows {
			if !allowed(r) {
				t.Errorf("%v is not allowed", r)
			}
			combine(sizes, strength, func(columns []int) { seen[tupleOf(r, columns)] = true }, nil)
		}
		combine(sizes, strength, func(columns []int) {
			for _, tu := range (&cover{sizes: sizes}).values(columns, 0) {
				row := []int{-9, -9, 0, 0, 0, 0}
				tu.set(row)
				if seen[tu] != allowed(row) {
					t.Errorf("strength %d, columns %v, row %v: seen %v", strength, columns, row, seen[tu])
				}
			}
		}, nil)
		t.Logf("strength %d: %d rows", strength, len(rows))
		if len(rows) > most {
			t.Errorf("strength %d: %d rows", strength, len(rows))
		}
	}
}

func TestHostileNames(t *testing.T) {
	names := HostileNames()
	slices.Sort(names)
	if n := len(slices.Compact(names)); n < 500 {
		t.Errorf("%d names", n)
	}
}
