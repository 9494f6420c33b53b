package sideeffect

import (
	"context"

	"github.com/pannier/pannier/spec/fault"
)

// An Identity names the bytes of one end: a file by name, inode or
// descriptor, memory, or a reader or writer. It opens nothing until a source
// or sink is asked for. Using one the wrong way round (reading a Writer) is
// fault.Invalid. Made by File, Inode, Handle, FD, Memory, Buffer, Reader,
// Writer, Duplex, Shared and Sharing.Of.
type Identity interface {
	OpenSource(SourceSpec) (Source, error)
	OpenSink(SinkSpec) (Sink, error)
	String() string // for messages: what it is, as `file "a/b"`
}

// SourceSpec says how a source is opened.
type SourceSpec struct {
	Offset  int64           // position in the identity of the transfer's first byte
	Opening context.Context // ends the waiting of one that takes a time to open; nil: nothing does
}

// SinkSpec says how a sink is opened.
type SinkSpec struct {
	Mode   Mode
	Offset int64       // position in the identity of the transfer's first byte; AtOffset only
	Size   int64       // bytes that will come, -1 unknown; only a hint, never trusted for memory
	NoSync bool        // Commit does not sync (AckStored, AckReceived)
	Keep   bool        // resumable: stable temporary name, Keep works
	Key    string      // with Keep: whose partial file it is; "": anybody's who writes to the name
	From   ResumePoint // with Keep: continue from here; From.Offset 0 = from the first byte
	Check  ResumeCheck
}

// A Resumer is an identity whose sinks can continue an earlier transfer.
type Resumer interface {
	// ResumePoint reads what an earlier resumable sink has left, creating and
	// changing nothing. Nothing usable, damaged or mismatching state is the
	// zero ResumePoint: start from the first byte. With CheckAll it reads the
	// whole partial file. An error says that nobody could tell now, because ctx has
	// ended, another run has the file, or there are no descriptors: who started from
	// the first byte for that would throw away what is good.
	ResumePoint(context.Context, SinkSpec) (ResumePoint, error)
}

// OpenSource validates the descriptor and opens its Local for reading from
// Offset, until ctx ends. The caller closes the source, which ctx does not bound.
func (d *Descriptor) OpenSource(ctx context.Context) (Source, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	return d.Local.OpenSource(SourceSpec{Offset: d.Offset, Opening: ctx})
}

// OpenSink validates the descriptor and opens its Local for writing. Call it
// only when the peer has accepted, because it may create a file. size is the
// announced number of bytes or -1; from is the resume point both ends have
// agreed on, zero for a transfer from its first byte. When the state on disk
// is no longer what from says, or from is within a block and not at the end of this
// transfer, the error is fault.Stale, and when size is over a
// Quota that does not Cut, fault.QuotaExceeded; then nothing was touched. The
// caller closes the sink.
func (d *Descriptor) OpenSink(size int64, from ResumePoint) (Sink, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	if d.Quota >= 0 && size > d.Quota && d.OverQuota == Fail {
		return nil, sinkQuota("open sink", size, d.Quota) // Truncate would lose the old content
	}
	spec := d.sinkSpec()
	spec.Size, spec.From = size, from
	if d.Quota >= 0 {
		spec.Size = min(size, d.Quota)
	}
	if from.Offset > 0 && !d.Resume {
		return nil, fault.NewLocal("open sink", fault.Invalid, "a resume point without Resume: set Resume")
	}
	if !from.fits(spec.Size) { // an earlier run was cut there; Keep would take nothing of this one
		return nil, fault.New("open sink", fault.Stale, "what is kept ends within a block, and this transfer goes on; start again")
	}
	if d.Ledger != nil {
		if err := d.Ledger.Opening(from.Offset, size); err != nil {
			return nil, err
		}
	}
	return d.Local.OpenSink(spec)
}

// ResumePoint is what an earlier run of this descriptor has left on disk, to be
// offered to the source; the zero value without Resume or when there is
// nothing usable. It creates and changes nothing, but reads the kept bytes to check
// them, unless Params.ResumeCheck is CheckLast. After an error the sink must not
// be opened: what is kept may be good.
func (d *Descriptor) ResumePoint(ctx context.Context) (ResumePoint, error) {
	r, ok := d.Local.(Resumer)
	if !ok || !d.Resume || d.Validate() != nil {
		return ResumePoint{}, nil
	}
	p, err := r.ResumePoint(ctx, d.sinkSpec())
	if err != nil || p.Hash != d.Hash || (d.Quota >= 0 && p.Offset > d.Quota) {
		return ResumePoint{}, err
	}
	return p, nil
}

func (d *Descriptor) sinkSpec() SinkSpec {
	return SinkSpec{
		Mode: d.Mode, Offset: d.Offset, Size: -1, Keep: d.Resume, Key: d.ResumeKey,
		NoSync: d.Params.AckPoint != AckDurable, Check: d.Params.ResumeCheck,
	}
}
