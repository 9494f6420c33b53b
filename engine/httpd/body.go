package httpd

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"sync"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/spec/fault"
)

// preface is what a message of gRPC begins with: whether it is compressed, and its length.
const preface = 5 // bytes

// What bodies of requests may take of memory.
const (
	maxBody    = 4 << 20                  // bytes of one
	maxForm    = 16 << 10                 // bytes of one that anybody may send
	bodyCost   = 16 << 10                 // what a request that has one takes beside it
	mostKnown  = 16 << 20                 // of all that one token sends at a time
	mostNobody = 4 * (maxForm + bodyCost) // of all that one connection sends at a time without a token
)

// bodies counts what there is of them, by who sends them: who sends more than may be waits, and
// keeps nobody else out. Users of this host are not counted: they could take the machine without.
type bodies struct {
	mu   sync.Mutex
	held map[string]int // bytes
}

// counted is one body that is counted. It is left with leave.
type counted struct {
	io.ReadCloser
	of    *bodies
	who   string // empty: it is not counted
	most  int
	held  int
	ahead int // bytes that are counted and were not read yet
}

// enter counts the body of a request, as far as it says how long it will be. Overloaded: its sender
// has too many.
func (b *bodies) enter(r *http.Request, c access.Caller) (*counted, error) {
	n := &counted{ReadCloser: r.Body, of: b, who: c.ID, most: mostKnown}
	if c.Name == "" {
		n.who, n.most = stranger(r), mostNobody
	}
	if r.ContentLength > 0 {
		n.ahead = int(min(r.ContentLength, maxBody+preface)) // more is not read
	}
	return n, n.take(bodyCost + n.ahead)
}

func (n *counted) take(size int) error {
	if n.who == "" || size == 0 {
		return nil
	}
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	if n.of.held[n.who]+size > n.most {
		return fault.New("read request", fault.Overloaded, "there are %d bytes of requests of the same sender already, the limit is %d", n.of.held[n.who], n.most)
	}
	n.of.held[n.who] += size
	n.held += size
	return nil
}

// leave is for when the request is over, and its body with it.
func (n *counted) leave() {
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	if n.of.held[n.who] -= n.held; n.of.held[n.who] <= 0 {
		delete(n.of.held, n.who)
	}
	n.held = 0
}

// Read implements io.Reader.
func (n *counted) Read(p []byte) (int, error) {
	size, err := n.ReadCloser.Read(p)
	more := max(0, size-n.ahead)
	n.ahead -= size - more
	if e := n.take(more); e != nil {
		return 0, e
	}
	return size, err
}

// message is the one message that a call of gRPC sends: each of the service has one. It is read
// before gRPC sees the call, which knows no deadline, and pins 16 KiB for each piece, however small.
// What is too long is for gRPC to refuse, by its first bytes.
func message(r io.Reader) (io.ReadCloser, error) {
	var all bytes.Buffer
	_, err := io.CopyN(&all, r, preface)
	if err == nil {
		if length := int64(binary.BigEndian.Uint32(all.Bytes()[1:])); length <= maxBody {
			_, err = io.CopyN(&all, r, length)
		}
	}
	if err != nil && err != io.EOF { // what is cut off is for gRPC to refuse, too
		return nil, fault.Wrap("read request", "", err)
	}
	return io.NopCloser(&all), nil
}
