package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/sideeffect"
)

func TestProgressLine(t *testing.T) {
	for _, c := range []struct {
		p     sideeffect.Progress
		moved int64
		want  string
	}{
		{sideeffect.Progress{Moved: 9 << 20, Total: 10 << 20}, 0, strings.Repeat("░", 30) + "    0%         0 B             -"},
		{sideeffect.Progress{Moved: 10 << 20, Received: 5 << 20, Total: 10 << 20}, 5 << 20,
			strings.Repeat("█", 15) + strings.Repeat("░", 15) + "   50%     5.0 MiB     2.5 MiB/s  storing"},
		{sideeffect.Progress{Moved: 9 << 20, Received: 5 << 20, Acknowledged: 4 << 20, Total: 10 << 20}, 1 << 20,
			strings.Repeat("█", 15) + strings.Repeat("░", 15) + "   50%     5.0 MiB     512 KiB/s"},
		{sideeffect.Progress{Moved: 1 << 20, Received: 1 << 20, Acknowledged: 1<<20 - 1, Total: 1 << 20}, 1 << 20,
			strings.Repeat("█", 30) + "   99%     1.0 MiB     512 KiB/s  storing"},
		{sideeffect.Progress{Moved: 1 << 20, Received: 1 << 20, Acknowledged: 1 << 20, Total: 1 << 20}, 1 << 20,
			strings.Repeat("█", 30) + "  100%     1.0 MiB     512 KiB/s"},
		{sideeffect.Progress{Moved: 3 << 10, Received: 2 << 10, Total: -1}, 2 << 10, "   2.0 KiB     1.0 KiB/s"},
		{sideeffect.Progress{Total: 0}, 0, "       0 B             -"},
	} {
		if got := progressLine(c.p, c.moved, 2*time.Second); got != c.want {
			t.Errorf("%+v:\n%q\n%q", c.p, got, c.want)
		}
	}
}

// TestUploadMoves: with a server that stores and never syncs before the end, the
// meter shows what it has taken, not 0 until then.
func TestUploadMoves(t *testing.T) {
	c, _ := start(t, true)
	var all []sideeffect.Progress
	here := &sideeffect.Descriptor{Local: sideeffect.Memory(content(64 << 20)), Quota: sideeffect.NoQuota,
		Progress: func(p sideeffect.Progress) { all = append(all, p) }}
	if err := c.put(t.Context(), "x", nil, here); err != nil {
		t.Fatal(err)
	}
	moving := 0
	for i, p := range all[:len(all)-1] {
		if p.Received > 0 && p.Received < p.Total && p.Acknowledged < p.Received {
			moving++
		}
		if p.Acknowledged > p.Received || p.Received > p.Moved || i > 0 && p.Received < all[i-1].Received {
			t.Errorf("report %d: %+v", i, p)
		}
	}
	if last := all[len(all)-1]; moving == 0 && len(all) > 2 || last.Received != last.Total || last.Acknowledged != last.Total {
		t.Errorf("%d of %d reports moved; the last one was %+v", moving, len(all), last)
	}
}

// TestMeterElsewhere: anything else gets nothing.
func TestMeterElsewhere(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/messages")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	m := startMeter(file, time.Now)
	m.note(sideeffect.Progress{Moved: 100, Received: 50, Total: 100})
	m.close()
	if info, err := file.Stat(); err != nil || info.Size() != 0 {
		t.Error(info.Size(), err)
	}
}
