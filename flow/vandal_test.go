package flow

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
)

// vandal harms one frame of everything that travels over a link. It sees frames
// where the link sees bytes, and delivers them whole.
type vandal struct {
	target int // which frame, counted over all connections and both directions; -1: none
	harm   harm
	rnd    *rand.Rand

	seen   int
	wires  map[[2]int]*halfFrame // by connection and direction
	harmed string                // what was, once it was
}

// halfFrame is what has come of a frame that is not whole yet.
type halfFrame struct {
	bytes []byte
	began bool // the preface has passed
}

type harm int

const (
	flipBit  harm = iota // anywhere
	flipHead             // within the first bytes, where control frames have all they have
	drop
	double
	harms
)

func (h harm) String() string { return [...]string{"bit", "bit of the head", "drop", "double"}[h] }

// corrupt is a flowtest.Corruption. The first frame of a connection has the
// preface in front.
func (v *vandal) corrupt(d flowtest.Direction, conn int, offset int64, p []byte) (out []byte) {
	h := v.wires[[2]int{conn, int(d)}]
	if h == nil {
		h = &halfFrame{}
		v.wires[[2]int{conn, int(d)}] = h
	}
	buf := append(h.bytes, p...)
	for {
		skip := len(wire.Preface)
		if h.began {
			skip = 0
		}
		if len(buf) < skip+wire.HeaderSize {
			break
		}
		size := skip + wire.HeaderSize + 8*int(buf[skip+3]) + int(binary.BigEndian.Uint32(buf[skip+8:]))
		if len(buf) < size {
			break
		}
		out = append(out, v.frame(buf[:size:size], wire.Type(buf[skip]), conn, d)...)
		buf, h.began = buf[size:], true
	}
	h.bytes = append([]byte(nil), buf...)
	return out
}

func (v *vandal) frame(f []byte, t wire.Type, conn int, d flowtest.Direction) []byte {
	v.seen++
	if v.seen-1 != v.target {
		return f
	}
	v.harmed = fmt.Sprintf("%v of frame %d, %v of %d bytes on connection %d, direction %d", v.harm, v.target, t, len(f), conn, d)
	switch v.harm {
	case drop:
		return nil
	case double:
		return append(f, f...)
	}
	most := len(f)
	if v.harm == flipHead {
		most = min(most, wire.MaxHead)
	}
	bit := v.rnd.IntN(8 * most)
	f[bit/8] ^= 1 << (bit % 8)
	return f
}
