package sftp

import (
	"encoding/binary"
	"time"
)

// Types of messages.
const (
	fxInit          = 1
	fxVersion       = 2
	fxOpen          = 3
	fxClose         = 4
	fxRead          = 5
	fxWrite         = 6
	fxFstat         = 8
	fxFsetstat      = 10
	fxOpendir       = 11
	fxReaddir       = 12
	fxRemove        = 13
	fxMkdir         = 14
	fxRmdir         = 15
	fxRealpath      = 16
	fxStat          = 17
	fxRename        = 18
	fxStatus        = 101
	fxHandle        = 102
	fxData          = 103
	fxName          = 104
	fxAttrs         = 105
	fxExtended      = 200
	fxExtendedReply = 201
)

// Flags of OPEN.
const (
	forReading = 0x01
	forWriting = 0x02
	create     = 0x08
	truncate   = 0x10
	exclusive  = 0x20
)

// Extensions that are used where the server has them.
const (
	extRename = "posix-rename@openssh.com"
	extSync   = "fsync@openssh.com"
	extLimits = "limits@openssh.com"
	extSpace  = "statvfs@openssh.com"
	extSum    = "check-file"
	extWhole  = "whole-file@pannier" // these two: see whole.go
	extGiveUp = "give-up@pannier"
)

const (
	maxMessage = 256 << 10 // bytes of a message, without its length: as OpenSSH's
	plainData  = 32 << 10  // bytes of a file in a message that every server takes
	mostData   = 255 << 10 // the same where the server says how many it takes
	headBytes  = 9         // of a request: length, type, number
)

// message is a request as it is sent. What follows the number is put by the methods.
type message []byte

// newMessage has room for that many bytes.
func newMessage(typ byte, room int) message {
	m := make(message, headBytes, headBytes+room)
	m[4] = typ
	return m
}

// ask is a request with texts only.
func ask(typ byte, texts ...string) message {
	n := 8
	for _, t := range texts {
		n += 4 + len(t)
	}
	m := newMessage(typ, n)
	for _, t := range texts {
		m = m.text(t)
	}
	return m
}

func (m message) number(v uint32) message { return binary.BigEndian.AppendUint32(m, v) }
func (m message) long(v int64) message    { return binary.BigEndian.AppendUint64(m, uint64(v)) }
func (m message) text(s string) message   { return append(m.number(uint32(len(s))), s...) }

// seal sets length and number.
func (m message) seal(id uint32) {
	binary.BigEndian.PutUint32(m, uint32(len(m)-4))
	binary.BigEndian.PutUint32(m[5:], id)
}

// fields reads what a message has. After one that is cut off all are empty, and bad.
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

func (f *fields) text() string {
	n := f.number()
	if n > maxMessage {
		f.bad = true
		return ""
	}
	return string(f.take(int(n)))
}

// Which attributes there are, and what a mode says.
const (
	hasSize     = 1
	hasOwner    = 2
	hasMode     = 4
	hasTimes    = 8
	hasExtended = 1 << 31

	modeType = 0o170000
	modeDir  = 0o040000
	modeFile = 0o100000
)

// attributes are of a file.
type attributes struct {
	size     int64 // -1: not said
	mode     uint32
	typed    bool // mode was said
	modified time.Time
}

func (a attributes) dir() bool { return a.typed && a.mode&modeType == modeDir }
func (a attributes) regular() bool {
	return !a.typed || a.mode&modeType == modeFile || a.mode&modeType == 0
}

func (f *fields) attributes() attributes {
	a := attributes{size: -1}
	flags := f.number()
	if flags&hasSize != 0 {
		n := f.long()
		if n > 1<<63-1 {
			f.bad = true
		}
		a.size = int64(n)
	}
	if flags&hasOwner != 0 {
		f.take(8)
	}
	if flags&hasMode != 0 {
		a.mode, a.typed = f.number(), true
	}
	if flags&hasTimes != 0 {
		f.number()
		a.modified = time.Unix(int64(f.number()), 0)
	}
	if flags&hasExtended != 0 {
		n := f.number()
		for i := uint32(0); i < n && !f.bad; i++ {
			f.text()
			f.text()
		}
	}
	return a
}
