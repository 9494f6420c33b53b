package s3

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"sync"

	"github.com/pannier/pannier/plugins"
)

// blocks are what parts are made of in memory.
var blocks = sync.Pool{New: func() any { return new([plugins.BlockSize]byte) }}

const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// part is a piece of a file: in memory until the server has it.
type part struct {
	number int // from 1
	size   int64
	crc    uint32
	etag   string // when the server has it
	blocks []*[plugins.BlockSize]byte
	sha    hash.Hash // nil with TLS, which proves that nothing was changed
	weight int64     // that it holds of the memory of its file
	give   func()    // gives back what it holds of that of all files; nil: nothing
}

// write takes what there is room for up to most bytes.
func (p *part) write(b []byte, most int64) int {
	b = b[:min(int64(len(b)), most-p.size)]
	p.crc = crc32.Update(p.crc, castagnoli, b)
	if p.sha != nil {
		_, _ = p.sha.Write(b)
	}
	n := len(b)
	for len(b) > 0 {
		in := int(p.size % plugins.BlockSize)
		if in == 0 {
			p.blocks = append(p.blocks, blocks.Get().(*[plugins.BlockSize]byte))
		}
		k := copy(p.blocks[len(p.blocks)-1][in:], b)
		b, p.size = b[k:], p.size+int64(k)
	}
	return n
}

// release gives the memory back. Nobody reads the part then.
func (p *part) release() {
	if p.give != nil {
		p.give()
	}
	for _, b := range p.blocks {
		blocks.Put(b)
	}
	p.blocks = nil
}

// digest is the SHA-256 that the request's signature is about; "" with TLS.
func (p *part) digest() string {
	if p.sha == nil {
		return ""
	}
	return hex.EncodeToString(p.sha.Sum(nil))
}

func newPart(number int, secure bool) *part {
	p := &part{number: number}
	if !secure {
		p.sha = sha256.New()
	}
	return p
}

// open is a reader of the part's bytes. What a request reads after it has ended would be
// of the next part's memory: closed, it reads nothing more.
func (p *part) open() *partReader { return &partReader{p: p} }

type partReader struct {
	mu     sync.Mutex
	p      *part
	at     int64
	closed bool
}

func (r *partReader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, errors.New("the request is over")
	}
	if r.at == r.p.size {
		return 0, io.EOF
	}
	in := r.at % plugins.BlockSize
	n := copy(b, r.p.blocks[r.at/plugins.BlockSize][in:min(plugins.BlockSize, in+r.p.size-r.at)])
	r.at += int64(n)
	return n, nil
}

func (r *partReader) stop() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
}
