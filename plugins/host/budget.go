package host

import "time"

const (
	firstPause = 200 * time.Millisecond
	mostPause  = 30 * time.Second
	crashes    = 5           // in crashTime, and the plugin is not started
	crashTime  = time.Minute // and for as long after the last
)

// budget is when a plugin may be started again after crashes.
type budget struct {
	at    []time.Time // of the last crashes, at most that many
	pause time.Duration
}

// crashed notes one, of a process that has lived that long.
func (b *budget) crashed(now time.Time, lived time.Duration) {
	if lived >= crashTime {
		b.pause = 0
	}
	b.pause = min(max(2*b.pause, firstPause), mostPause)
	if b.at = append(b.at, now); len(b.at) > crashes {
		b.at = b.at[1:]
	}
}

// next is how long to wait before it is started, and whether it may be at all; if not,
// how long that lasts.
func (b *budget) next(now time.Time) (wait time.Duration, may bool) {
	if len(b.at) == 0 {
		return 0, true
	}
	last := b.at[len(b.at)-1]
	if left := last.Add(crashTime).Sub(now); len(b.at) == crashes && last.Sub(b.at[0]) < crashTime && left > 0 {
		return left, false
	}
	return max(last.Add(b.pause).Sub(now), 0), true
}
