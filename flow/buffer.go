package flow

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// headroom is what every buffer keeps free in front of its payload, so that a
// frame's header and extension words are written there and one Write sends all.
const headroom = 64

// slack is what every buffer has behind its payload, so that a compressor may
// need a little more than the content it is given.
const slack = 64

// classes are the payload sizes of pooled buffers.
var classes = [...]int{4 * KiB, 16 * KiB, 64 * KiB, 128 * KiB, 256 * KiB, 512 * KiB, MiB}

// maxIdle bounds the payload bytes that idle buffers of a pool hold on to.
const maxIdle = 16 * MiB

// buffer is one pooled piece of memory: headroom, then payload.
type buffer struct {
	mem   []byte
	class int8
}

func (b *buffer) payload(n int) []byte { return b.mem[headroom : headroom+n] }

// A Pool is the memory that sessions share: a budget for what peers may have in
// flight towards this node, and the buffers themselves.
type Pool struct {
	mu   sync.Mutex
	free [len(classes)][]*buffer // last in, first out, so that the cache still holds it
	idle int                     // payload bytes in free; idle <= maxIdle

	limit int // of used
	used  int // granted and not consumed, over all sessions
	held  int // of blocks that wait to be sent in a row; held <= maxHeld

	zip   func() *zstd.Encoder // compress.go
	unzip func() *zstd.Decoder
}

// NewPool makes a pool with a budget of limit bytes.
func NewPool(limit int) *Pool {
	return &Pool{limit: limit, zip: sync.OnceValue(newZip), unzip: sync.OnceValue(newUnzip)}
}

// Used is how many bytes peers may send right now without asking again.
func (p *Pool) Used() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// reserve takes n bytes of the budget. With force it takes them even beyond
// the limit: the floor that every stream is entitled to.
func (p *Pool) reserve(n int, force bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !force && p.used+n > p.limit {
		return false
	}
	p.used += n
	return true
}

func (p *Pool) release(n int) {
	p.mu.Lock()
	p.used -= n
	p.mu.Unlock()
}

// get returns a buffer with room for n payload bytes, n <= 1 MiB.
func (p *Pool) get(n int) *buffer {
	class := 0
	for classes[class] < n {
		class++
	}
	p.mu.Lock()
	if l := len(p.free[class]); l > 0 {
		b := p.free[class][l-1]
		p.free[class] = p.free[class][:l-1]
		p.idle -= classes[class]
		p.mu.Unlock()
		return b
	}
	p.mu.Unlock()
	return &buffer{mem: make([]byte, headroom+classes[class]+slack), class: int8(class)}
}

// put gives a buffer back; nobody may use it afterwards.
func (p *Pool) put(b *buffer) {
	if b == nil {
		return
	}
	size := classes[b.class]
	p.mu.Lock()
	if p.idle+size <= maxIdle {
		p.idle += size
		p.free[b.class] = append(p.free[b.class], b)
	}
	p.mu.Unlock()
}
