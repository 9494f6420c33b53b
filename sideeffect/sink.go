package sideeffect

// A Sink takes the bytes of a transfer, in order and without gaps. Offsets
// are those of the transfer: 0 is its first byte. One goroutine uses a Sink
// at a time. Exactly one of Commit and Abort ends it, then Close.
type Sink interface {
	// WriteBlock stores p at off, which must be the end of what was written so
	// far. p is not kept.
	WriteBlock(p []byte, off int64) error
	// Sync makes everything written so far durable and returns its end. After
	// a failure the sink is poisoned: every later call returns the same
	// error, and nothing is synced again, because the kernel may have dropped
	// the pages it could not write.
	Sync() (durable int64, err error)
	// Commit publishes the content as the mode says: sync, rename, sync of the
	// directory. After success the content is complete under its name.
	Commit() error
	// Abort undoes what the mode can undo: temporaries are removed, appended
	// bytes cut off, newly created files removed. With keep a resumable sink
	// leaves its partial file and state for the next run instead.
	Abort(keep bool) error
	// Offset is the position in the file where the transfer's first byte is.
	Offset() int64
	// Close releases the sink; one that is neither committed nor aborted is
	// aborted without keep.
	Close() error
}

// An AheadSyncer is a sink that can be written to while it syncs.
type AheadSyncer interface {
	Sink
	// BeginSync begins to make durable what is written so far. ready is closed
	// when that is over; finish waits for it, and returns as Sync does. One at a
	// time, and finish comes before Commit, Abort and Close.
	BeginSync() (ready <-chan struct{}, finish func() (durable int64, err error))
}

// A Keeper is a resumable sink.
type Keeper interface {
	Sink
	// Keep records p beside the partial file. p.Offset must be what the last
	// Sync returned (F2: the order sync, then record, is checked here); Start is set by the
	// sink.
	Keep(p ResumePoint) error
	// Resumed is the point this sink continues from; zero = from the first byte.
	Resumed() ResumePoint
}

// A Namer is a sink that tells of its file before that has its name.
type Namer interface {
	Sink
	// CommitNoted is Commit, but note is told the version of the file when all of it is on disk, and
	// the file gets its name only when note has returned without an error. That changes nothing
	// of the version but the change time.
	CommitNoted(note func(Version) error) error
}
