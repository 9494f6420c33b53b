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

// product plays the full product of what decides the outcome. What must not
// matter takes turns along the way.
func (m *matrix) product(t *testing.T, road sideeffect.Road) {
	m.slice(t, road, []int{
		colDirection, colSource, colSink, colMode, colBefore, colSourceOffset, colSinkOffset,
		colSourceQuota, colSinkQuota, colSourceOver, colSinkOver,
	}, func(Case) bool { return true })
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
