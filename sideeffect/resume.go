package sideeffect

// A ResumePoint is how far an earlier run of a transfer came on disk. A sink
// offers Version, BlockSize, Offset and Root to the source; Start and
// HashState stay at the sink. The zero value means: from the first byte.
//
//	Offset = k x BlockSize for some k, or the end of the transfer, which a quota may have cut
type ResumePoint struct {
	Version   Version        // of the source the bytes came from
	Start     int64          // position in the sink's file of the transfer's first byte
	BlockSize int            // of the run that wrote them; block boundaries are multiples of it
	Offset    int64          // bytes that are durable
	Root      [RootSize]byte // chain over them
	Hash      Algorithm      // of HashState
	HashState []byte         // Hasher state after them; empty with None
}

// fits reports whether a transfer of total bytes (-1 unknown) can go on from p: blocks that
// begin within a block would not end where those of a state have to.
func (p ResumePoint) fits(total int64) bool {
	return p.Offset == 0 || p.Offset == total || p.BlockSize > 0 && p.Offset%int64(p.BlockSize) == 0
}
