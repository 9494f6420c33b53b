package doctor

import (
	"testing"
	"time"
)

// TestRoom: bytes and inodes are judged apart; a file system without a number of inodes has
// enough of them.
func TestRoom(t *testing.T) {
	const much = 100 << 30
	for _, tc := range []struct {
		v    volume
		want Outcome
	}{
		{volume{free: much, files: 1e6, freeFiles: 1e6}, OK},
		{volume{free: much}, OK},
		{volume{free: littleRoom - 1}, Warn},
		{volume{free: noRoom - 1}, Fail},
		{volume{free: much, files: 1e6, freeFiles: littleFiles - 1}, Warn},
		{volume{free: much, files: 1e6, freeFiles: noFiles - 1}, Fail},
		{volume{free: littleRoom - 1, files: 1e6}, Fail},
	} {
		if got, text := tc.v.room(); got != tc.want {
			t.Errorf("%+v: %s, %q, want %s", tc.v, got, text, tc.want)
		}
	}
}

// TestSynced: only a sync beyond a second is a warning.
func TestSynced(t *testing.T) {
	for _, tc := range []struct {
		slowest time.Duration
		want    Outcome
	}{{999 * time.Millisecond, OK}, {1001 * time.Millisecond, Warn}} {
		var got []Finding
		e := &exam{check: "disk", tell: func(f Finding) { got = append(got, f) }}
		e.synced("/x", []time.Duration{tc.slowest, 1, 2})
		if len(got) != 1 || got[0].Outcome != tc.want {
			t.Errorf("%v: %+v, want %s", tc.slowest, got, tc.want)
		}
	}
}
