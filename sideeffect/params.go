package sideeffect

import "time"

// AckPoint says when a sink may call bytes done, and so what a source's
// acknowledged bytes mean.
type AckPoint uint8

const (
	AckDurable  AckPoint = iota // synced to disk, name included; the default
	AckStored                   // written to the file, not synced: a power cut may undo a success
	AckReceived                 // as AckStored
)

// ResumeCheck says how much of a kept partial file is read again before a
// transfer continues from it.
type ResumeCheck uint8

const (
	CheckAll  ResumeCheck = iota // all of it, against the root; the source reads as much at the same time
	CheckLast                    // its last block only: damage further ahead goes unnoticed unless the transfer has a Hash
)

// Limits of Params.
const (
	MinBlockSize     = 4 << 10
	MaxBlockSize     = 1 << 20
	DefaultSyncEvery = 64 << 20 // bytes between syncs of a resumable sink
)

// Params tunes a transfer, like SFTP_Initializer of the original. The zero
// value is the default and good for files of any size.
type Params struct {
	Window    int64 // most bytes in flight towards this end's sink; 0 = the session grows it with the path
	BlockSize int   // bytes per block, MinBlockSize..MaxBlockSize; 0 = the session's default. The smaller of both ends' wishes counts
	SendAhead int   // blocks the kernel is asked to read from disk before they can be sent; 0 = as the kernel sees fit
	AckPoint  AckPoint
	// SyncEvery is the number of bytes a sink writes between syncs. 0 = sync
	// only at the end, or every DefaultSyncEvery bytes when the descriptor has
	// Resume. Each sync holds up the transfer (spec/design.md).
	SyncEvery int64
	// SyncAfter is how long bytes may be written and not synced, checked with each
	// block; it makes syncs more frequent on slow ways than SyncEvery alone. 0 = as long as it takes.
	SyncAfter   time.Duration
	ResumeCheck ResumeCheck
}

// Validate reports the first value out of its range as fault.Invalid.
func (p Params) Validate() error {
	switch {
	case p.Window < 0:
		return invalid("window is %d bytes: set Params.Window to 0 or more", p.Window)
	case p.BlockSize != 0 && (p.BlockSize < MinBlockSize || p.BlockSize > MaxBlockSize):
		return invalid("block size is %d bytes: set Params.BlockSize to 0 or %d..%d", p.BlockSize, MinBlockSize, MaxBlockSize)
	case p.SendAhead < 0:
		return invalid("send-ahead is %d blocks: set Params.SendAhead to 0 or more", p.SendAhead)
	case p.AckPoint > AckReceived:
		return invalid("ack point is %d: set Params.AckPoint to AckDurable, AckStored or AckReceived", p.AckPoint)
	case p.SyncAfter < 0:
		return invalid("sync interval is %v: set Params.SyncAfter to 0 or more", p.SyncAfter)
	case p.SyncEvery < 0:
		return invalid("sync interval is %d bytes: set Params.SyncEvery to 0 or more", p.SyncEvery)
	case p.ResumeCheck > CheckLast:
		return invalid("resume check is %d: set Params.ResumeCheck to CheckAll or CheckLast", p.ResumeCheck)
	}
	return nil
}

// syncEvery is the interval in force; 0 = only at the end.
func (p Params) syncEvery(resume bool) int64 {
	if p.SyncEvery == 0 && resume {
		return DefaultSyncEvery
	}
	return p.SyncEvery
}
