package engine

import "time"

// storeLook is how often it is looked whether the store's files are still there.
const storeLook = time.Minute

// mind looks after the store's files for as long as the engine runs: where nothing is committed, nobody
// else finds out that they were removed, and that what this process still has of them is the last of it.
func (e *Engine) mind() {
	defer e.work.Done()
	tick := time.NewTicker(storeLook)
	defer tick.Stop()
	for {
		if err := e.cfg.Store.Check(); err != nil && e.Cause() == nil {
			e.gone.Store(true)
			e.log.Error("the store's files were removed: what this node remembers ends with the process, and that with the next change; save it with pannier backup while it runs", "error", err)
		}
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			return
		}
	}
}

// Gone reports whether the files of the store were removed: the process ends with its next commit.
func (e *Engine) Gone() bool { return e.gone.Load() }
