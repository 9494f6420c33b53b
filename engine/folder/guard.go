package folder

import (
	"sync"
	"sync/atomic"
	"time"
)

// guard is a mutex under which files are looked at, renamed and removed: a file system that does not
// answer keeps it locked. Who only wants to know how the folder is doing gives up.
type guard struct {
	mu    sync.Mutex
	since atomic.Int64 // ns since 1970: when it was locked; 0: it is not
}

// patience is how long somebody waits for the lock who only wants to know.
const patience = 200 * time.Millisecond

func (g *guard) Lock() {
	g.mu.Lock()
	g.since.Store(time.Now().UnixNano())
}

func (g *guard) Unlock() {
	g.since.Store(0)
	g.mu.Unlock()
}

// tryLock locks it if that can be soon; else it says since when another has it.
func (g *guard) tryLock() (since time.Time, ok bool) {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if g.mu.TryLock() {
			g.since.Store(time.Now().UnixNano())
			return time.Time{}, true
		}
		switch at := g.since.Load(); {
		case at != 0 && time.Since(time.Unix(0, at)) > patience:
			return time.Unix(0, at), false
		case time.Since(began) > patience: // others are faster, again and again
			return began, false
		}
	}
}
