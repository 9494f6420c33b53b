package sideeffect

import "time"

// ProgressEvery is the shortest time between two calls of Descriptor.Progress;
// the last call, at the end, is not held back by it.
const ProgressEvery = 100 * time.Millisecond

// Progress is how far a transfer is, in bytes from the first byte of the
// transfer (a resumed one starts at Result.ResumedFrom).
//
//	Durable <= Acknowledged <= Received <= Moved <= Total (when Total >= 0)
type Progress struct {
	Moved        int64 // source: handed to the stream; sink: written
	Received     int64 // source: taken and written by the sink, digests checked, as last heard; what a progress bar shows. Sink: written
	Acknowledged int64 // source: what AckPoint calls done: with AckDurable what the sink has synced, which without SyncEvery is 0 until the end, else Received; sink: written
	Durable      int64 // on the sink's disk
	Total        int64 // -1 when the source does not know
}

// Result is the outputs of a Descriptor.
type Result struct {
	BytesTransferred int64 // source: acknowledged by the sink; sink: stored. A resumed transfer counts from its first byte ever
	QuotaExceeded    bool  // there were more bytes than some quota allowed
	Digest           Sum   // of the whole content moved; zero without Descriptor.Hash
	LocalStatus      Status
	RemoteStatus     Status
	Err              error  // why LocalStatus or RemoteStatus is Failure; a *fault.Error
	Road             Road   // the road that was taken (Descriptor.Road is the wish)
	ResumedFrom      int64  // 0: everything was moved by this run
	Verified         string // what was compared and equal, as "blocks+root" or "blocks+root+sha256"; "" when nothing was
	Stats            Stats
}

// Stats are figures of one run; none of them decides anything.
type Stats struct {
	Started, Finished time.Time
	WireBytes         int64 // bytes of the blocks as they travelled, headers included; 0 = the road does not count
	Blocks            int64
}

// Took is the time from start to finish; 0 for what never started.
func (s Stats) Took() time.Duration {
	if s.Started.IsZero() || s.Finished.IsZero() {
		return 0
	}
	return s.Finished.Sub(s.Started)
}
