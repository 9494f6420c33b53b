package rpctest

import (
	"testing"

	"github.com/pannier/pannier/sideeffect"
)

// Columns of a row, as in dimensions.
const (
	colDirection = iota
	colSource
	colSink
	colMode
	colBefore
	colSize
	colSourceOffset
	colSinkOffset
	colSourceQuota
	colSinkQuota
	colSourceOver
	colSinkOver
	colHash
	colHashAt
	colCompress
	colRandom
	colAwait
	colSwallow
)

// decisive plays every combination of columns that decide the outcome together.
// The other columns take turns.
func (m *matrix) decisive(t *testing.T, road sideeffect.Road) {
	all := func(Case) bool { return true }
	// What holds its bytes and knows their number is like a file to a quota.
	few := func(c Case) bool { return c.Source == FromFile || c.Source >= FromReader }
	m.slice(t, road, []int{colDirection, colSource, colSourceQuota, colSinkQuota, colSourceOver, colSinkOver}, few)
	m.slice(t, road, []int{colDirection, colSink, colMode, colBefore, colSinkOffset}, all)
	m.slice(t, road, []int{colDirection, colSource, colSourceOffset, colSize}, all)
}

// slice plays every combination of some columns. What takes turns is plain in
// one slice and mixed in the next: an offset would hide a quota.
func (m *matrix) slice(t *testing.T, road sideeffect.Road, columns []int, keep func(Case) bool) {
	sizes := dimensions()
	row := make([]int, len(sizes))
	free := map[int]bool{colSize: true, colHash: true, colHashAt: true, colCompress: true, colRandom: true, colAwait: true, colSwallow: true}
	for _, c := range columns {
		delete(free, c)
	}
	for n := 0; ; n++ {
		turn := n
		for col := range sizes {
			if free[col] {
				row[col] = turn % sizes[col]
				turn = turn/sizes[col] + n
			}
		}
		if free[colSize] { // large enough for quotas to differ, on either side of MaxInline
			row[colSize] = 4 + n%(sizes[colSize]-4)
		}
		if c := caseOf(road, row); m.possible(c) && keep(c) {
			m.check(t, c)
		}
		if !next(row, sizes, columns) {
			return
		}
	}
}

// product plays the full product of what decides the outcome, but for cases
// that repeat another. What must not matter takes turns along the way.
func (m *matrix) product(t *testing.T, road sideeffect.Road) {
	m.slice(t, road, []int{
		colDirection, colSource, colSink, colMode, colBefore, colSourceOffset, colSinkOffset,
		colSourceQuota, colSinkQuota, colSourceOver, colSinkOver,
	}, func(c Case) bool { return !c.repeats(m.HTTP2) })
}

// repeats: a case of the product that is another one once more.
//
//   - What happens beyond a quota means nothing where no quota is exceeded.
//   - Memory and what a writer writes to hold what they hold, whatever was before.
//   - What holds its bytes and knows their number is like a file to a quota:
//     quotas of both ends meet for files and readers, of one end for the rest.
//   - With three reasons to fail, at least two are not looked at.
func (c Case) repeats(http2 bool) bool {
	limits := func(q Quota) bool { return q == Least || q == Less }
	memory := c.Sink == ToExact || c.Sink == ToSmall || c.Sink == ToLarge
	holder := c.Source != FromFile && c.Source != FromReader && c.Source != FromStream
	switch {
	case !limits(c.SourceQuota) && c.SourceOver != 0, !limits(c.SinkQuota) && c.SinkOver != 0,
		memory && c.Before != Nothing,
		holder && c.SourceQuota != Unlimited && c.SinkQuota != Unlimited:
		return true
	}
	return len(Expect(c, http2).Reasons) > 2
}

// next counts row up in the columns; false: it is back at the start.
func next(row, sizes, columns []int) bool {
	for _, c := range columns {
		if row[c]++; row[c] < sizes[c] {
			return true
		}
		row[c] = 0
	}
	return false
}
