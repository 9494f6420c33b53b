package sideeffect

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// pieceSize is how many bytes are read, kept and dropped together.
const pieceSize = 256 << 10

// How long a reader that is ahead waits, so that what it reads serves those behind: half
// of its time, five seconds at a stretch, and only for who has moved within four. Whoever is
// not within the window after that is not waited for until it has caught up.
const (
	waitShare = 2
	mostWait  = 5 * time.Second
	aliveFor  = 4 * time.Second
)

// pieces is memory for pieces that windows have in common.
type pieces struct {
	free  atomic.Int64 // so many more may be kept
	cache sync.Pool    // of *[]byte
}

func newPieces(most int64) *pieces {
	p := &pieces{}
	p.free.Store(most)
	p.cache.New = func() any { b := make([]byte, pieceSize); return &b }
	return p
}

// take is room for one, if there is any.
func (p *pieces) take() *[]byte {
	if p.free.Add(-1) < 0 {
		p.free.Add(1)
		return nil
	}
	return p.cache.Get().(*[]byte)
}

func (p *pieces) give(b *[]byte) {
	p.cache.Put(b)
	p.free.Add(1)
}

// window is one content that several members read. Whoever needs a piece first reads it;
// it is kept while another member has yet to come to it. When there is no room for that, the
// piece goes that is needed last, by where the members are and how fast they move: so each
// group that moves together has its own part of the window, and one that stands still has
// soon none. Who finds nothing reads by itself.
//
//	len(pieces) <= most, and each of them is below next
type window struct {
	most    int // pieces at a time
	room    *pieces
	again   bool // any byte can be read any number of times; else pieces are read in order, and the first waits for the last
	patient bool // who is ahead waits a little
	read    *atomic.Int64

	mu      sync.Mutex // never held while reading
	moved   sync.Cond  // a member moved on, left or was interrupted; a piece was read
	waits   int        // those who wait for it
	pieces  map[int64]*piece
	oldest  int64 // of a content that cannot be read again: no piece below it is kept
	next    int64 // first piece nobody has started to read
	members map[*member]bool
}

func newWindow(most int, room *pieces, again, patient bool, read *atomic.Int64) *window {
	w := &window{most: most, room: room, again: again, patient: patient, read: read, pieces: map[int64]*piece{}, members: map[*member]bool{}}
	w.moved.L = &w.mu
	return w
}

// piece is a piece of the content; n and err are set before ready is closed.
type piece struct {
	ready chan struct{}
	buf   *[]byte
	n     int
	err   error // io.EOF when it is the last
	users int   // who reads it into, or copies from it; under window.mu
	gone  bool  // no longer in the window; under window.mu
}

func (p *piece) isReady() bool {
	select {
	case <-p.ready:
		return true
	default:
		return false
	}
}

// member is one who reads, or, without a source, is expected to.
type member struct {
	w      *window
	src    Source
	joined time.Time
	left   chan struct{} // closed by interrupt
	once   sync.Once

	// Under w.mu.
	at     int64         // piece it needs
	pace   time.Duration // for one piece, lately
	moved  time.Time     // when it came to at
	credit time.Duration // so long it may wait
	paid   time.Time     // of credit
	letGo  bool          // it is not waited for
}

// join adds a member, in the place of one that was expected if there is any.
func (w *window) join(src Source) *member {
	w.mu.Lock()
	defer w.mu.Unlock()
	for m := range w.members {
		if m.src == nil {
			delete(w.members, m)
			break
		}
	}
	return w.add(src)
}

// add adds a member. w.mu is held.
func (w *window) add(src Source) *member {
	now := time.Now()
	m := &member{w: w, src: src, joined: now, moved: now, credit: mostWait, paid: now, left: make(chan struct{})}
	w.members[m] = true
	return m
}

// leave takes m out, and reports whether nobody is left who reads.
func (w *window) leave(m *member) (last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.members, m)
	last = true
	for other := range w.members {
		last = last && other.src == nil
	}
	for i := range w.pieces {
		if last || w.again && !w.needed(i) {
			w.drop(i)
		}
	}
	w.moved.Broadcast()
	return last
}

// needed reports whether a member has yet to come to a piece. w.mu is held.
func (w *window) needed(index int64) bool {
	for m := range w.members {
		if m.at <= index && !m.isInterrupted() {
			return true
		}
	}
	return false
}

// drop takes a piece out of the window. w.mu is held.
func (w *window) drop(index int64) {
	p := w.pieces[index]
	delete(w.pieces, index)
	if p.gone = true; p.users == 0 {
		w.room.give(p.buf)
	}
}

// release ends the use of a piece that get has given.
func (w *window) release(p *piece) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.users--; p.users == 0 && p.gone {
		w.room.give(p.buf)
	}
}

// interrupt ends the waiting of m, and reports whether all were interrupted.
func (m *member) interrupt() (all bool) {
	m.once.Do(func() { close(m.left) })
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.w.moved.Broadcast()
	for other := range m.w.members {
		if other.src != nil && !other.isInterrupted() {
			return false
		}
	}
	return true
}

func (m *member) isInterrupted() bool {
	select {
	case <-m.left:
		return true
	default:
		return false
	}
}

func (m *member) interruption() error {
	if m.isInterrupted() {
		return fault.New("read shared source", fault.Canceled, "the reading was interrupted")
	}
	return nil
}

// ReadBlock is that of Source.
func (m *member) ReadBlock(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fault.NewLocal("read shared source", fault.Invalid, "offset %d", off)
	}
	if m.w.again && m.alone(off/pieceSize) {
		return m.readAlone(p, off)
	}
	done := 0
	for done < len(p) {
		n, err := m.readSome(p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// alone moves to a piece, and reports whether there is nobody to read for.
func (m *member) alone(index int64) bool {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.moveTo(index, time.Now())
	return len(m.w.members) == 1 && len(m.w.pieces) == 0
}

// readSome reads from one piece, at most to its end.
func (m *member) readSome(p []byte, off int64) (int, error) {
	index, in := off/pieceSize, int(off%pieceSize)
	u, err := m.get(index)
	if err != nil {
		return 0, err
	}
	if u == nil {
		return m.readAlone(p[:min(len(p), pieceSize-in)], off)
	}
	defer m.w.release(u)
	if in > u.n || in == u.n && u.err != nil {
		if u.err != nil {
			return 0, u.err
		}
		return 0, io.EOF
	}
	n := copy(p, (*u.buf)[in:u.n])
	if in+n == u.n {
		return n, u.err
	}
	return n, nil
}

// readAlone reads past the window.
func (m *member) readAlone(p []byte, off int64) (int, error) {
	if !m.w.again {
		return 0, fault.NewLocal("read shared source", fault.Unsupported,
			"byte %d has left the cache and cannot be read again: open all sources before one is a cache ahead", off)
	}
	n, err := m.src.ReadBlock(p, off)
	m.w.read.Add(int64(n))
	return n, err
}

// get is the piece m needs, read by another or by m now; its user releases it. It is nil
// when m has to read by itself.
func (m *member) get(index int64) (*piece, error) {
	w := m.w
	w.mu.Lock()
	for {
		now := time.Now()
		m.moveTo(index, now)
		if u := w.pieces[index]; u != nil {
			u.users++
			w.mu.Unlock()
			return m.await(u, index)
		}
		if m.isInterrupted() {
			w.mu.Unlock()
			return nil, m.interruption()
		}
		buf, wait := w.place(m, index, now)
		if buf != nil {
			u := &piece{ready: make(chan struct{}), buf: buf, users: 1}
			w.insert(u, index)
			w.mu.Unlock()
			m.fill(u, index)
			return u, nil
		}
		if wait == 0 {
			w.mu.Unlock()
			return nil, nil
		}
		m.pause(now, wait)
	}
}

// forever is until the window changes.
const forever time.Duration = 1<<63 - 1

// pause waits until the window changes, that long at most. w.mu is held.
func (m *member) pause(now time.Time, most time.Duration) {
	w := m.w
	if most < forever {
		timer := time.AfterFunc(most, func() {
			w.mu.Lock()
			w.moved.Broadcast()
			w.mu.Unlock()
		})
		defer timer.Stop()
	}
	w.waits++
	w.moved.Wait()
	w.waits--
	m.credit -= time.Since(now)
}

// await waits until the piece was read, or m is interrupted. One that could not be read is
// tried by each for itself.
func (m *member) await(u *piece, index int64) (*piece, error) {
	select {
	case <-u.ready:
	case <-m.left:
		m.w.release(u)
		return nil, m.interruption()
	}
	if u.err != nil && u.err != io.EOF && m.w.again {
		m.w.release(u)
		return nil, nil
	}
	return u, nil
}

// insert puts a piece into the window that m is about to read. w.mu is held.
func (w *window) insert(u *piece, index int64) {
	w.pieces[index] = u
	if len(w.pieces) == 1 {
		w.oldest = index
	}
	w.next = max(w.next, index+1)
}

// fill reads a piece for all who wait for it.
func (m *member) fill(u *piece, index int64) {
	w := m.w
	u.err = fault.New("read shared source", fault.Internal, "the reader panicked")
	returned := false
	defer func() { // also then
		close(u.ready)
		w.mu.Lock()
		if u.err != nil && u.err != io.EOF && w.again && w.pieces[index] == u {
			w.drop(index)
		}
		w.moved.Broadcast()
		w.mu.Unlock()
		if !returned {
			w.release(u) // whoever wanted it does not come to it
		}
	}()
	u.n, u.err = m.src.ReadBlock(*u.buf, index*pieceSize)
	returned = true
	w.read.Add(int64(u.n))
}

// moveTo notes where m is. w.mu is held.
func (m *member) moveTo(index int64, now time.Time) {
	w := m.w
	if m.at == index {
		return
	}
	if steps := index - m.at; steps > 0 {
		m.pace = (m.pace*3 + now.Sub(m.moved)/time.Duration(steps)) / 4
	}
	was := m.at
	m.at, m.moved = index, now
	m.letGo = m.letGo && index+int64(w.most) < w.next
	for i := was; w.again && i < index && i < was+int64(w.most); i++ {
		if w.pieces[i] != nil && !w.needed(i) {
			w.drop(i)
		}
	}
	if w.waits > 0 {
		w.moved.Broadcast()
	}
}

// place is memory for a piece that m is about to read for others, or how long to wait
// for it. Neither: there is no use in it. w.mu is held.
func (w *window) place(m *member, index int64, now time.Time) (*[]byte, time.Duration) {
	if !w.again {
		return w.inOrder(index)
	}
	w.forget(now)
	soon, who := w.due(index, m, now)
	if who == nil {
		return nil, 0
	}
	if len(w.pieces) < w.most {
		if buf := w.room.take(); buf != nil {
			return buf, 0
		}
	}
	if w.patient {
		if wait := w.patience(m, now); wait > 0 {
			return nil, wait
		}
	}
	last, late := int64(-1), soon
	for i, p := range w.pieces {
		if !p.isReady() || p.users > 0 {
			continue
		}
		if d, who := w.due(i, nil, now); who == nil || d > late {
			last, late = i, d
			if who == nil {
				break
			}
		}
	}
	if last < 0 {
		return nil, 0
	}
	w.drop(last)
	return w.room.take(), 0
}

// patience is how long m waits for the last of those who are waited for, if that one is
// about to fall out of the window. w.mu is held.
func (w *window) patience(m *member, now time.Time) time.Duration {
	m.credit = min(m.credit+now.Sub(m.paid)/waitShare, mostWait)
	m.paid = now
	var last *member
	for other := range w.members {
		if other != m && !other.letGo && !other.isInterrupted() && other.at <= m.at && (last == nil || other.at < last.at) {
			last = other
		}
	}
	if last == nil || m.at-last.at < int64(len(w.pieces)) {
		return 0
	}
	wait := min(m.credit, aliveFor-now.Sub(last.moved))
	last.letGo = wait <= 0
	return wait
}

// forget gives up members that were expected and have not come. w.mu is held.
func (w *window) forget(now time.Time) {
	for m := range w.members {
		if m.src == nil && now.Sub(m.joined) > expectFor {
			delete(w.members, m)
		}
	}
}

// expectFor is how long a member is expected to come.
const expectFor = 5 * time.Second

// due is when a piece is needed next, and by whom; but is not asked. w.mu is held.
func (w *window) due(index int64, but *member, now time.Time) (soon time.Duration, who *member) {
	for m := range w.members {
		if m == but || m.at > index || m.isInterrupted() {
			continue
		}
		if d := time.Duration(index-m.at+1) * max(m.pace, now.Sub(m.moved), 1); who == nil || d < soon {
			soon, who = d, m
		}
	}
	return soon, who
}

// inOrder is place where nothing can be read again: it never takes away a piece that is
// being read, or that somebody still needs. w.mu is held.
func (w *window) inOrder(index int64) (*[]byte, time.Duration) {
	if index != w.next {
		return nil, 0
	}
	if len(w.pieces) >= w.most {
		for w.pieces[w.oldest] == nil {
			w.oldest++
		}
		if p := w.pieces[w.oldest]; !p.isReady() || p.users > 0 || w.needed(w.oldest) {
			return nil, forever
		}
		w.drop(w.oldest)
		w.oldest++
	}
	return w.room.take(), 0
}
