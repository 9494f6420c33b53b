package sideeffect

// A Source is the bytes to send. Offsets are those of the transfer: 0 is its
// first byte, wherever Descriptor.Offset put that in the file. One goroutine
// uses a Source at a time.
type Source interface {
	// Size is the number of bytes of the transfer, -1 when unknown.
	Size() int64
	// ReadBlock fills p from off. n < len(p) only at the end, then err is
	// io.EOF (io.EOF may also come with the last bytes, or with n = 0 after
	// them). Bytes that were promised by Size and are gone are
	// fault.SourceChanged. A source that is not Rewindable is read in order.
	ReadBlock(p []byte, off int64) (n int, err error)
	// Rewindable tells whether ReadBlock may be called for any offset, any
	// number of times, by several goroutines (Shared does).
	Rewindable() bool
	// Version identifies the content as it was opened; zero for non-files.
	Version() Version
	// Check compares the file with what was opened: fault.SourceChanged when it
	// was written to meanwhile. Called after the last byte.
	Check() error
	// Close ends the use. It closes only what OpenSource opened.
	Close() error
}

// An Interrupter is a source or sink whose blocked call can be ended from
// another goroutine; pumps call it when their context ends.
type Interrupter interface {
	Interrupt()
}

// A Prefetcher is a source on a disk: it can have bytes read into memory before
// they are asked for. It does not wait, and nothing depends on it.
type Prefetcher interface {
	Prefetch(off, n int64)
}
