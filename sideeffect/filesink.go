package sideeffect

import (
	"github.com/zeebo/xxh3"

	"github.com/pannier/pannier/spec/fault"
)

// writer is the part all file sinks share: one open file that grows in order.
//
//	synced <= end; lastLen = 0 <=> nothing written or taken over yet
type writer struct {
	file   LayerFile
	name   string // for messages
	start  int64  // position in file of the transfer's first byte
	end    int64  // bytes of the transfer that are in whole, written blocks
	synced int64
	noSync bool
	track  bool // remember the last block, for Keep

	lastLen int64
	lastSum uint64
	marked  mark // of the last sync

	writeErr error // a block is missing: nothing more is written
	syncErr  error // the kernel may have dropped pages: nothing is synced or published any more
}

func (w *writer) Offset() int64 { return w.start }

func (w *writer) WriteBlock(p []byte, off int64) error {
	switch {
	case w.syncErr != nil:
		return w.syncErr
	case w.writeErr != nil:
		return w.writeErr
	case off != w.end:
		return fault.New("write block", fault.Internal, "block at %d, the next one is %d", off, w.end)
	}
	if err := writeAll(w.file, p, w.start+off); err != nil {
		w.writeErr = fault.Wrap("write block", w.name, err)
		return w.writeErr
	}
	w.end += int64(len(p))
	if w.track && len(p) > 0 {
		w.lastLen, w.lastSum = int64(len(p)), xxh3.HashSeed(p, uint64(off))
	}
	return nil
}

// Sync works after a failed write too: the blocks before it are whole.
func (w *writer) Sync() (int64, error) {
	if w.syncErr != nil || w.synced == w.end {
		return w.synced, w.syncErr
	}
	if err := w.file.SyncData(); err != nil {
		return w.synced, w.poison(err)
	}
	w.marked = w.mark()
	w.synced = w.end
	return w.synced, nil
}

// mark is what a state file says of the last block before an offset.
type mark struct {
	end, lastLen int64
	lastSum      uint64
}

func (w *writer) mark() mark { return mark{w.end, w.lastLen, w.lastSum} }

// BeginSync implements AheadSyncer. What is written meanwhile may be synced or not;
// only what was written before counts.
func (w *writer) BeginSync() (ready <-chan struct{}, finish func() (int64, error)) {
	now, over := w.mark(), make(chan struct{})
	var err error
	go func() {
		defer close(over)
		err = w.file.SyncData()
	}()
	return over, func() (int64, error) {
		<-over
		switch {
		case w.syncErr != nil:
		case err != nil:
			w.poison(err)
		default:
			w.marked, w.synced = now, max(w.synced, now.end)
		}
		return w.synced, w.syncErr
	}
}

// syncAll syncs content and metadata before the content gets its name.
func (w *writer) syncAll() error {
	switch {
	case w.syncErr != nil:
		return w.syncErr
	case w.writeErr != nil:
		return w.writeErr
	case w.noSync, w.end > 0 && w.synced == w.end:
		// What was synced has its size, and a rename that is synced takes the
		// rest of the inode with it.
		return nil
	}
	if err := w.file.Sync(); err != nil {
		return w.poison(err)
	}
	w.synced = w.end
	return nil
}

func (w *writer) poison(err error) error {
	w.syncErr = fault.Wrap("sync file", w.name, err)
	return w.syncErr
}
