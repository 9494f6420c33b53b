package sideeffect

import (
	"slices"
	"testing"
)

// ahead records what is prefetched.
type ahead struct {
	Source
	asked [][2]int64
}

func (a *ahead) Prefetch(off, n int64) { a.asked = append(a.asked, [2]int64{off, n}) }

func TestSendAhead(t *testing.T) {
	for _, tc := range []struct {
		blocks int
		want   [][2]int64
	}{
		{0, nil},
		{2, [][2]int64{{10, 20}, {30, 10}, {40, 10}}},
	} {
		src := &ahead{}
		s := &sender{src: src, plan: SendPlan{SendAhead: tc.blocks}}
		for _, at := range []int64{0, 10, 20, 10} { // the last one: rewound
			s.at = at
			s.prefetch(10)
		}
		if !slices.Equal(src.asked, tc.want) {
			t.Errorf("%d blocks ahead: prefetched %v, want %v", tc.blocks, src.asked, tc.want)
		}
	}
}
