package sideeffect

import (
	"bytes"
	"errors"
	"syscall"
	"testing"
)

// parts is a file that notes how much is written to it at once, and takes no more than room.
type parts struct {
	content []byte
	room    int
	largest int
}

func (p *parts) WriteAt(b []byte, off int64) (int, error) {
	p.largest = max(p.largest, len(b))
	n := min(len(b), p.room-len(p.content))
	if off != int64(len(p.content)) {
		return 0, syscall.EINVAL
	}
	p.content = append(p.content, b[:n]...)
	if n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// TestWriteInParts: a large block is written whole, a part at a time; the first part that fails is the last.
func TestWriteInParts(t *testing.T) {
	block := make([]byte, MaxBlockSize-1)
	for i := range block {
		block[i] = byte(i * 7 >> 3)
	}
	whole := parts{room: len(block)}
	if err := writeAll(&whole, block, 0); err != nil || !bytes.Equal(whole.content, block) || whole.largest != writePart {
		t.Fatalf("%d of %d bytes, up to %d at once: %v", len(whole.content), len(block), whole.largest, err)
	}
	full := parts{room: writePart + 1000}
	if err := writeAll(&full, block, 0); !errors.Is(err, syscall.ENOSPC) || len(full.content) != full.room {
		t.Fatalf("%d bytes in a file for %d: %v", len(full.content), full.room, err)
	}
}
