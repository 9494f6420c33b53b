package sftp

import (
	"context"
	"encoding"
	"encoding/binary"
	"hash"
	"io"
	"path"
	"sync"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// mostWrites is how many WRITEs of a file are under way.
const mostWrites = 16

// staged is a file that is being written, in pieces that the server confirms one by one.
// What counts is what it has without a hole: a later piece may be there before an earlier.
type staged struct {
	s       *session
	c       *conn
	ctx     context.Context
	path    string
	part    string
	direct  bool // the server names it when it is whole: part is path
	handle  string
	token   token
	size    int64      // that was promised; -1: none
	time    time.Time  // that it is to have; zero: any
	offset  int64      // where writing began
	sent    int64      // bytes of the file that were sent, with those before offset
	acks    sync.Mutex // of settled and sum, which Checkpoint reads while Write runs
	settled int64      // bytes that the server has, without a hole
	synced  *token     // what of that is on its disk, as the last FSYNC has said; nil: nothing, or it has none
	open    *chunk     // being filled; may be nil
	flight  []*chunk
	window  int
	sum     hash.Hash // of the settled bytes; nil: none
	alg     algorithm
	err     error // of Write

	mu     sync.Mutex
	closed bool // the handle, and the connection given back
	over   bool // committed or aborted
	attr   plugins.Attr
	result error
	kept   []byte
	gone   bool
}

// chunk is a WRITE.
type chunk struct {
	call
	m    message
	head int // bytes before those of the file
}

const chunkRoom = headBytes + 4 + 256 + 8 + 4 + mostData // 256: the longest handle

var chunks = sync.Pool{New: func() any { return new([chunkRoom]byte) }}

// newChunk begins a WRITE.
func (st *staged) newChunk() *chunk {
	m := message(chunks.Get().(*[chunkRoom]byte)[:headBytes])
	m[4] = fxWrite
	k := &chunk{m: m.text(st.handle).long(st.sent).number(0)}
	k.head = len(k.m)
	k.op, k.path = "WRITE", st.part
	return k
}

func (k *chunk) data() []byte { return k.m[k.head:] }

func (k *chunk) recycle() { chunks.Put((*[chunkRoom]byte)(k.m[:chunkRoom])) }

// Write begins a part file, or goes on with one.
func (s *session) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	target, err := s.path(name)
	if err != nil {
		return nil, err
	}
	if name == "/" {
		return nil, fault.New("sftp write", fault.Invalid, "/ is a directory")
	}
	tok, err := parseToken(w.Resume, w.ID)
	if err != nil {
		return nil, err
	}
	c, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	st := &staged{s: s, c: c, ctx: ctx, path: target, part: tok.part(target), token: tok, size: w.Size, time: w.Modified, window: 2}
	if c.has(extWhole) && c.has(extGiveUp) {
		st.part, st.direct = st.path, true
		err = st.beginWhole(ctx, w)
	} else {
		err = st.begin(ctx, w)
	}
	if err != nil {
		s.give(c)
		return nil, err
	}
	return st, nil
}

func (st *staged) begin(ctx context.Context, w plugins.WriteRequest) (err error) {
	resume := w.Resume != nil
	target := &call{op: "STAT", path: st.path}
	if err := st.c.start(ctx, ask(fxStat, st.path), target); err != nil {
		return err
	}
	if resume && st.token.At > 0 && (st.size < 0 || st.token.At <= st.size) {
		if err := st.again(ctx); err != nil {
			return err
		}
	}
	if st.handle == "" {
		flags := uint32(forWriting | create | exclusive)
		if resume { // an earlier part is there, or is not
			flags = forWriting | create | truncate
		}
		st.handle, err = st.begun(ctx, flags)
		if err != nil && w.Again && !resume && !is(err, codeNoFile) && !st.c.dead() { // an earlier one may be there
			if bad := st.c.simple(ctx, "REMOVE", ask(fxRemove, st.part), st.part); bad != nil {
				return st.c.full(ctx, "WRITE", err, parent(st.part))
			}
			st.handle, err = st.begun(ctx, flags)
		}
		if err != nil {
			return st.c.full(ctx, "WRITE", err, parent(st.part))
		}
	}
	if err := st.possible(ctx, target); err != nil {
		if !resume {
			_, _ = st.c.do(ctx, fxStatus, ask(fxRemove, st.part), &call{op: "REMOVE", path: st.part})
		}
		st.c.close(st.handle, st.part)
		return err
	}
	st.sent, st.settled = st.offset, st.offset
	if a, ok := best(st.s.caps.Checksums); ok && st.s.hash {
		st.checksum(a)
	}
	return nil
}

// possible says whether the file can get its name later, as far as asking for it tells.
func (st *staged) possible(ctx context.Context, k *call) error {
	if err := st.c.wait(ctx, k); err != nil {
		return err
	}
	f, err := st.c.reply(fxAttrs, k)
	if is(err, codeBadMessage) || err != nil && st.c.dead() {
		return err
	}
	if err == nil && f.attributes().dir() {
		return st.c.isDirectory(st.path)
	}
	return nil
}

// isDirectory is the error of a file that is to have the name of a directory.
func (c *conn) isDirectory(path string) error {
	return c.said(fault.Exists, "RENAME", path, "the name is a directory's").Advise("remove or rename the directory, or give the file another name")
}

func (st *staged) begun(ctx context.Context, flags uint32) (string, error) {
	return st.c.handle(ctx, ask(fxOpen, st.part).number(flags).number(0), &call{op: "OPEN", path: st.part})
}

// again opens a part that is there, and cuts off what is not known to be without a hole.
// A part that has less than that, or is not there, is none.
func (st *staged) again(ctx context.Context) error {
	h, err := st.begun(ctx, forWriting)
	if err != nil {
		if is(err, codeNoFile) {
			return nil
		}
		return err
	}
	a, err := st.c.fstat(ctx, h, st.part)
	if err == nil && a.size > st.token.At {
		err = st.c.simple(ctx, "FSETSTAT", ask(fxFsetstat, h).number(hasSize).long(st.token.At), st.part)
		if err == nil {
			a, err = st.c.fstat(ctx, h, st.part)
		}
	}
	if err != nil || a.size != st.token.At {
		st.c.close(h, st.part)
		if err != nil && (st.c.dead() || ctx.Err() != nil) {
			return err
		}
		return nil // anew
	}
	st.handle, st.offset = h, st.token.At
	st.synced = &st.token // as it was told to be
	return nil
}

// checksum begins the sum of what is written, or goes on with it. Without the state at the
// offset there is none, and the file is compared by size.
func (st *staged) checksum(a algorithm) {
	sum := a.make()
	if st.offset > 0 {
		u, ok := sum.(encoding.BinaryUnmarshaler)
		if !ok || st.token.Algorithm != a.name || u.UnmarshalBinary(st.token.State) != nil {
			return
		}
	}
	st.sum, st.alg = sum, a
}

func (st *staged) Offset() int64 { return st.offset }

func (st *staged) Write(p []byte) (n int, err error) {
	if err := st.writable(); err != nil {
		return 0, err
	}
	for len(p) > 0 {
		if st.open == nil {
			st.open = st.newChunk()
		}
		k := st.open
		some := min(len(p), st.c.write-len(k.data()))
		k.m = append(k.m, p[:some]...)
		p = p[some:]
		n += some
		if len(k.data()) == st.c.write {
			if st.err = st.flush(st.ctx); st.err != nil {
				return n, st.err
			}
		}
	}
	return n, nil
}

func (st *staged) writable() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over {
		return fault.New("sftp write", fault.Canceled, "the file is committed or aborted")
	}
	return st.err
}

// ReadFrom is for io.Copy: a reader reads into messages.
func (st *staged) ReadFrom(r io.Reader) (n int64, err error) {
	if err := st.writable(); err != nil {
		return 0, err
	}
	for {
		if st.open == nil {
			st.open = st.newChunk()
		}
		k := st.open
		got, err := r.Read(k.m[len(k.m) : k.head+st.c.write])
		k.m = k.m[:len(k.m)+got]
		n += int64(got)
		if len(k.data()) == st.c.write {
			if st.err = st.flush(st.ctx); st.err != nil {
				return n, st.err
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// flush sends what is filled, when there is room for one more.
func (st *staged) flush(ctx context.Context) error {
	k := st.open
	if k == nil || len(k.data()) == 0 {
		return nil
	}
	for len(st.flight) >= st.window {
		if err := st.settle(ctx); err != nil {
			return err
		}
	}
	for len(st.flight) > 0 && st.flight[0].finished() {
		if err := st.settle(ctx); err != nil {
			return err
		}
	}
	binary.BigEndian.PutUint32(k.m[k.head-4:], uint32(len(k.data())))
	if err := st.c.start(ctx, k.m, &k.call); err != nil {
		return err
	}
	st.open = nil
	st.flight = append(st.flight, k)
	st.sent += int64(len(k.data()))
	return nil
}

func (k *call) finished() bool {
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

// settle waits for the first piece that is under way. How many there are at a time follows
// from how long they take: on a slow line few, since each has to be answered in time.
func (st *staged) settle(ctx context.Context) error {
	k := st.flight[0]
	if err := st.c.wait(ctx, &k.call); err != nil {
		return err
	}
	if _, err := st.c.reply(fxStatus, &k.call); err != nil {
		return st.c.full(ctx, "WRITE", err, st.part)
	}
	st.flight = st.flight[1:]
	st.acks.Lock()
	st.settled += int64(len(k.data()))
	if st.sum != nil {
		_, _ = st.sum.Write(k.data())
	}
	st.acks.Unlock()
	switch {
	case k.took > st.s.timeout/4:
		st.window = max(1, st.window/2)
	case st.window < mostWrites:
		st.window++
	}
	k.recycle()
	return nil
}

// drain has the server confirm all that was written.
func (st *staged) drain(ctx context.Context) error {
	if err := st.flush(ctx); err != nil {
		return err
	}
	for len(st.flight) > 0 {
		if err := st.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// full makes a failure without a reason one of a file system that takes nothing, or of space, if there is none and the
// operation takes some. The path is there.
func (c *conn) full(ctx context.Context, op string, err error, path string) error {
	if !is(err, codeFailure) || !c.has(extSpace) {
		return err
	}
	f, bad := c.do(ctx, fxExtendedReply, ask(fxExtended, extSpace, path), &call{op: extSpace, path: path})
	if bad != nil {
		return err
	}
	f.take(4 * 8) // block sizes, blocks, free ones
	available := f.long()
	f.take(4 * 8) // files, and of which file system
	switch flags := f.long(); {
	case f.bad:
	case flags&readOnly != 0:
		return c.said(fault.Permission, op, path, "the server's file system is read-only: %v", err).Advise("have it mounted there so that it can be written to, or use another directory")
	case available == 0 && (op == "WRITE" || op == "MKDIR"):
		return c.said(fault.NoSpace, op, path, "the server has no space for it: %v", err).Advise("%s", advice(fault.NoSpace))
	}
	return err
}

// parent is the directory that a name is in.
func parent(name string) string { return path.Dir(name) }

// readOnly is a flag of statvfs@openssh.com.
const readOnly = 1
