package ftp

import (
	"context"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// token is what goes on with a file later: of a Write, or of a Copy. The part's name
// follows from the file's.
type token struct {
	ID string `json:"id"`
	// Of Write: the state of the checksum after At bytes.
	Algorithm string `json:"alg,omitempty"`
	At        int64  `json:"at,omitempty"`
	State     []byte `json:"state,omitempty"`
	// Of Copy: the source as it was.
	Size     int64 `json:"size,omitempty"`
	Modified int64 `json:"mod,omitempty"` // Unix seconds; 0: the server does not say
}

// newToken is of that WriteRequest.ID.
func newToken(id string) token { return token{ID: plugins.PartID(id)} }

// parseToken is a new one without resume.
func parseToken(resume []byte, id string) (t token, err error) {
	if resume == nil {
		return newToken(id), nil
	}
	digits, bad := []byte(nil), json.Unmarshal(resume, &t)
	if bad == nil {
		digits, bad = hex.DecodeString(t.ID)
	}
	if bad != nil || len(digits) != 6 || t.At < 0 || t.Size < 0 {
		return t, fault.New("ftp resume", fault.Invalid, "what is to be gone on with is not what an earlier Abort or Copy has returned")
	}
	return t, nil
}

func (t token) bytes() []byte {
	b, _ := json.Marshal(t)
	return b
}

// part is the name of a file until it has its own: beside it, so that giving it that name
// is a rename, and not hidden, since some servers refuse names with a dot in front.
func (t token) part(target string) string {
	dir, base := path.Split(target)
	const most = 200 // bytes of an element have room up to 255
	if len(base) > most {
		base = strings.ToValidUTF8(base[:most], "") // not half a character
	}
	return dir + base + ".pannier-" + t.ID + ".part"
}

// staged is a file that is being written.
type staged struct {
	s      *session
	t      *data
	path   string
	part   string
	token  token
	size   int64     // that was promised; -1: none
	time   time.Time // that it is to have; zero: any
	offset int64     // where writing began
	sent   int64     // bytes of the file that were written, with those before offset
	sum    hash.Hash
	alg    algorithm
	err    error // of Write

	mu     sync.Mutex
	closed bool // the connection is given back
	over   bool // committed or aborted
	attr   plugins.Attr
	result error
	kept   []byte
	gone   error
}

// Write begins a part file, or goes on with one.
func (s *session) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	target, err := s.path(name)
	if err != nil {
		return nil, err
	}
	if name == "/" {
		return nil, fault.New("ftp write", fault.Invalid, "/ is a directory")
	}
	tok, err := parseToken(w.Resume, w.ID)
	if err != nil {
		return nil, err
	}
	s.anew()
	c, err := s.takeTo(ctx, true)
	if err != nil {
		return nil, err
	}
	st := &staged{s: s, path: target, part: tok.part(target), token: tok, size: w.Size, time: w.Modified}
	if s.whole() {
		st.part = target
	}
	err = st.clear(ctx, c, w)
	if err == nil {
		err = st.begin(ctx, c, w.Resume != nil && !s.whole())
	}
	if err != nil {
		s.give(c)
		return nil, err
	}
	return st, nil
}

// clear removes what an earlier Write may have left: not all servers let a file be written over.
func (st *staged) clear(ctx context.Context, c *conn, w plugins.WriteRequest) error {
	if !w.Again || w.Resume != nil || st.s.whole() {
		return nil
	}
	_, err := c.command(ctx, "DELE "+st.part) // mostly there is none
	return err
}

func (st *staged) begin(ctx context.Context, c *conn, resume bool) error {
	if resume {
		n, err := c.size(ctx, st.part)
		switch {
		case err == nil && (st.size < 0 || n <= st.size):
			st.offset = n
		case err != nil && fault.KindOf(err) != fault.NotFound: // whether there is something, nobody knows
			return err
		case err == nil: // longer than the file: not of it
			if _, err := c.must(ctx, "DELE", st.part); err != nil {
				return err
			}
		}
	}
	st.sent = st.offset
	if a, ok := common(st.s.caps.Checksums); ok && st.s.hash {
		st.checksum(a)
	}
	var err error
	for range 2 { // somebody else may have made the directory, meanwhile
		known := st.s.there(path.Dir(st.path))
		if st.offset > 0 && !st.s.feat.has("REST") {
			st.t, err = c.transfer(ctx, "APPE", st.part, 0)
		} else {
			st.t, err = c.transfer(ctx, "STOR", st.part, st.offset)
		}
		if err == nil {
			st.t.detach()
			return nil
		}
		if err = c.unplaced(ctx, st.path, err); known || c.dead.Load() || fault.KindOf(err) != fault.Permission {
			return err
		}
	}
	return err
}

// checksum begins the sum of what is written, or goes on with it. Without the state at the
// offset there is none, and the file is compared by size.
func (st *staged) checksum(a algorithm) {
	sum := a.make()
	if st.offset > 0 {
		u, ok := sum.(encoding.BinaryUnmarshaler)
		if !ok || st.token.Algorithm != a.name || st.token.At != st.offset || u.UnmarshalBinary(st.token.State) != nil {
			return
		}
	}
	st.sum, st.alg = sum, a
}

func (st *staged) Offset() int64 { return st.offset }

func (st *staged) Write(p []byte) (int, error) {
	if err := st.writable(); err != nil {
		return 0, err
	}
	n, err := st.t.Write(p)
	st.t.c.fed.Store(time.Now().UnixNano())
	if st.sum != nil {
		_, _ = st.sum.Write(p[:n])
	}
	st.sent += int64(n)
	st.err = err
	return n, err
}

func (st *staged) writable() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return fault.New("ftp write", fault.Canceled, "the file is committed or aborted")
	}
	return st.err
}

// ReadFrom is for io.Copy, with a buffer that makes few calls. Having the kernel move the
// bytes (sendfile) was measured, and is not quicker.
func (st *staged) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{st}, struct{ io.Reader }{r}, make([]byte, 256<<10))
}

// Commit ends the file, compares and names it.
func (st *staged) Commit(ctx context.Context) (plugins.Attr, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.over {
		st.over, st.t.ctx = true, ctx
		st.t.c.fed.Store(0)
		st.attr, st.result = st.commit(ctx)
	}
	return st.attr, st.result
}

func (st *staged) commit(ctx context.Context) (a plugins.Attr, err error) {
	c := st.t.c
	defer st.release()
	if st.err != nil {
		return a, st.err
	}
	if st.size >= 0 && st.sent != st.size {
		c.kill()
		return a, c.said(fault.Corrupt, "STOR", st.path, "%d bytes were written of a file of %d", st.sent, st.size)
	}
	st.t.judged = st.s.whole()
	if err := st.ended(); err != nil {
		return a, err
	}
	if st.s.whole() {
		return st.taken()
	}
	n, err := c.size(ctx, st.part)
	if err != nil {
		return a, c.vanished(st.path, st.sent, err)
	}
	if n != st.sent {
		_, _ = c.command(ctx, "DELE "+st.part)
		return a, c.said(fault.Corrupt, "STOR", st.path, "the server has confirmed %d bytes, and says that it has %d", st.sent, n).Advise("write again; if it happens again, the server cuts files off")
	}
	if st.sum != nil {
		err := c.compare(ctx, st.part, st.alg, st.sum.Sum(nil))
		switch {
		case fault.KindOf(err) == fault.Unsupported && err != nil: // of this name
			st.sum = nil
		case err != nil:
			if fault.KindOf(err) == fault.Corrupt {
				_, _ = c.command(ctx, "DELE "+st.part)
			}
			return a, err
		}
	}
	timed, err := c.timed(ctx, st.part, st.time)
	if err != nil {
		return a, err
	}
	is, verified := content{size: n, time: st.time.Truncate(time.Second)}, "size"
	if !timed { // renaming changes no time
		if is.time, err = c.modified(ctx, st.part); err != nil {
			return a, err
		}
	}
	if st.sum != nil {
		is.alg, is.sum, verified = st.alg, st.sum.Sum(nil), st.alg.name
	}
	if err := st.s.publish(ctx, c, st.part, st.path, is, false); err != nil {
		return a, err
	}
	return plugins.Attr{Name: st.named(), Size: n, Modified: is.time, Verified: verified}, nil
}

// taken is what a server has confirmed that has named the file by that. It says how many
// bytes it has: SIZE might not find what went on from there.
func (st *staged) taken() (plugins.Attr, error) {
	a := plugins.Attr{Name: st.named(), Size: st.sent, Verified: "end"}
	if n, ok := countOf(st.t.said); ok {
		if a.Verified = "size"; n != st.sent {
			return plugins.Attr{}, st.t.c.said(fault.Corrupt, "STOR", st.path, "%d bytes were sent, and the server has taken %d", st.sent, n)
		}
	}
	st.s.full.Store(false)
	return a, nil
}

// countOf is N of "... N bytes...".
func countOf(text string) (n int64, ok bool) {
	before, _, ok := strings.Cut(text, " bytes")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(before[strings.LastIndexByte(before, ' ')+1:], 10, 64)
	return n, err == nil && n >= 0
}

// named is the path below the base, as the caller has it.
func (st *staged) named() string {
	if st.s.base == "/" {
		return st.path
	}
	return st.path[len(st.s.base):]
}

// ended has the server confirm that it has what was sent.
func (st *staged) ended() error {
	if err := st.t.ended(); err != nil {
		err = st.t.why(err)
		st.t.close()
		return err
	}
	return st.t.finish()
}

// release gives the connection back. st.mu is held.
func (st *staged) release() {
	if !st.closed {
		st.closed = true
		_ = st.t.raw.Close()
		st.s.give(st.t.c)
	}
}

// Abort ends a file that has no name yet.
func (st *staged) Abort(ctx context.Context, keep bool) ([]byte, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over && st.result == nil && st.attr.Name != "" {
		return nil, fault.New("ftp abort", fault.Invalid, "the file is committed")
	}
	if st.kept != nil || st.gone != nil {
		return st.kept, st.gone
	}
	if !keep || st.s.whole() {
		if !st.closed {
			st.t.c.kill()
			st.release()
		}
		if st.s.whole() { // it has taken nothing, and what has the name is another file
			return nil, nil
		}
		return nil, st.s.discard(ctx, st.part)
	}
	st.t.ctx = ctx
	if !st.closed && st.err == nil && !st.over {
		if st.ended() == nil && st.sum != nil {
			if m, ok := st.sum.(encoding.BinaryMarshaler); ok {
				if state, err := m.MarshalBinary(); err == nil {
					st.token.Algorithm, st.token.At, st.token.State = st.alg.name, st.sent, state
				}
			}
		}
	}
	st.over = true
	if st.result == nil {
		st.result = fault.New("ftp commit", fault.Canceled, "the file was aborted")
	}
	st.release()
	st.kept = st.token.bytes()
	return st.kept, nil
}

// Checkpoint implements plugins.Checkpointer: without the checksum's state, because only
// the server knows how much of the file it keeps.
func (st *staged) Checkpoint(context.Context) ([]byte, error) {
	return token{ID: st.token.ID}.bytes(), nil
}

// discard removes a part, which need not be there.
func (s *session) discard(ctx context.Context, part string) error {
	return s.with(ctx, func(c *conn) error {
		r, err := c.command(ctx, "DELE "+part)
		if err != nil || r.good() {
			return err
		}
		if _, err := c.size(ctx, part); err == nil {
			return c.refused("DELE", part, r)
		}
		return nil
	})
}
