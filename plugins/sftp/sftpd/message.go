package sftpd

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/pannier/pannier/plugins"
)

// Types of messages, of version 3 (draft-ietf-secsh-filexfer-02).
const (
	fxInit     = 1
	fxVersion  = 2
	fxOpen     = 3
	fxClose    = 4
	fxRead     = 5
	fxWrite    = 6
	fxLstat    = 7
	fxFstat    = 8
	fxSetstat  = 9
	fxFsetstat = 10
	fxOpendir  = 11
	fxReaddir  = 12
	fxRemove   = 13
	fxMkdir    = 14
	fxRmdir    = 15
	fxRealpath = 16
	fxStat     = 17
	fxRename   = 18
	fxStatus   = 101
	fxHandle   = 102
	fxData     = 103
	fxName     = 104
	fxAttrs    = 105
	fxExtended = 200
	fxExtReply = 201
)

// Flags of OPEN.
const (
	forReading = 0x01
	forWriting = 0x02
	appending  = 0x04
	create     = 0x08
	truncate   = 0x10
	exclusive  = 0x20
)

// Extensions.
const (
	extRename = "posix-rename@openssh.com"
	extSync   = "fsync@openssh.com"
	extLimits = "limits@openssh.com"
	// extWhole and extGiveUp are ours. A server that has them gives a file its name when CLOSE
	// has succeeded, so that nobody needs another name for it before. extWhole has a name and a
	// mark of the client's: it opens the file for writing, where what was begun with the same
	// mark has ended, as FSTAT says. extGiveUp has a handle and a number, and gives up the file
	// that is open for writing, without CLOSE, which would publish it: with 1 as if the client
	// had gone, so that it may be gone on with; with 0 nothing of it stays.
	extWhole  = "whole-file@pannier"
	extGiveUp = "give-up@pannier"
)

const (
	maxMessage = 256 << 10 // bytes of a message, without its length: as OpenSSH's
	maxData    = 255 << 10 // bytes of a file in one
	headBytes  = 9         // of a message: length 4, type 1, number 4
)

// message is a reply as it is sent.
type message []byte

// newMessage answers the request of that number, and has room for that many bytes more.
func newMessage(typ byte, id uint32, room int) message {
	m := make(message, headBytes, headBytes+room)
	m[4] = typ
	binary.BigEndian.PutUint32(m[5:], id)
	return m
}

func (m message) number(v uint32) message { return binary.BigEndian.AppendUint32(m, v) }
func (m message) long(v uint64) message   { return binary.BigEndian.AppendUint64(m, v) }
func (m message) text(s string) message   { return append(m.number(uint32(len(s))), s...) }

// seal sets the length.
func (m message) seal() message {
	binary.BigEndian.PutUint32(m, uint32(len(m)-4))
	return m
}

// Which attributes there are.
const (
	hasSize     = 1
	hasOwner    = 2
	hasMode     = 4
	hasTimes    = 8
	hasExtended = 1 << 31
)

// attr adds what the node says of a file.
func (m message) attr(a plugins.Attr) message {
	flags, seconds := uint32(hasMode), a.Modified.Unix()
	if a.Size >= 0 {
		flags |= hasSize
	}
	if !a.Modified.IsZero() && seconds >= 0 && seconds <= math.MaxUint32 {
		flags |= hasTimes
	}
	m = m.number(flags)
	if flags&hasSize != 0 {
		m = m.long(uint64(a.Size))
	}
	m = m.number(mode(a))
	if flags&hasTimes != 0 {
		m = m.number(uint32(seconds)).number(uint32(seconds))
	}
	return m
}

// mode is what a file is and what may be done with it, as stat has it.
func mode(a plugins.Attr) uint32 {
	if a.Dir {
		return 0o040755
	}
	return 0o100644
}

// longname is a line of ls -l, which clients show.
func longname(a plugins.Attr, now time.Time) string {
	rights, when := "-rw-r--r--", "Jan _2  2006"
	if a.Dir {
		rights = "drwxr-xr-x"
	}
	if age := now.Sub(a.Modified); age >= 0 && age < 180*24*time.Hour {
		when = "Jan _2 15:04"
	}
	return fmt.Sprintf("%s    1 pannier  pannier  %12d %s %s", rights, max(a.Size, 0), a.Modified.UTC().Format(when), a.Name)
}

// fields reads what a request has. After one that is cut off all are empty, and bad.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if f.bad || n < 0 || n > len(f.b) {
		f.bad, f.b = true, nil
		return nil
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) number() uint32 {
	if b := f.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (f *fields) long() uint64 {
	if b := f.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (f *fields) bytes() []byte {
	n := f.number()
	if n > maxMessage {
		f.bad = true
		return nil
	}
	return f.take(int(n))
}

func (f *fields) text() string { return string(f.bytes()) }

// size reads attributes, of which the size is all that counts; -1: none.
func (f *fields) size() int64 {
	size := int64(-1)
	flags := f.number()
	if flags&hasSize != 0 {
		n := f.long()
		if n > math.MaxInt64 {
			f.bad = true
		}
		size = int64(n)
	}
	if flags&hasOwner != 0 {
		f.take(8)
	}
	if flags&hasMode != 0 {
		f.take(4)
	}
	if flags&hasTimes != 0 {
		f.take(8)
	}
	if flags&hasExtended != 0 {
		for n := f.number(); n > 0 && !f.bad; n-- {
			f.bytes()
			f.bytes()
		}
	}
	return size
}
