package sftpd

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"strconv"
	"sync"

	"github.com/pannier/pannier/spec/fault"
)

// maxHandles is how many files and directories a subsystem has open, those that are
// being closed among them.
const maxHandles = 64

// readdirBytes is the most of a reply with names, about.
const readdirBytes = 48 << 10

// request is one of a client, from its reading to the writing of its reply.
type request struct {
	typ   byte
	ext   string // of EXTENDED
	id    uint32
	f     fields
	cost  int // bytes, of the gate
	reply message
}

// subsystem is one channel that speaks SFTP. One goroutine reads requests, one writes
// replies, each handle has one, and so has each request that names a file.
type subsystem struct {
	g       *guest
	io      io.ReadWriter
	here    context.Context // ends when the client has no more requests
	leaves  context.CancelFunc
	gate    *gate
	order   order
	replies chan *request // room for all that are under way
	work    sync.WaitGroup

	mu      sync.Mutex
	handles map[string]*handle // open ones
	opened  int                // these, those that are being opened, and those that are being closed
	last    uint64             // of the names of handles
	over    bool
}

// handle is something open. Its goroutine serves the queue.
type handle struct {
	file
	name  string // of the file, if its closing changes it
	queue chan *request
	turn  *turn // of CLOSE
}

// file is what is open. Its methods are called by one goroutine.
type file interface {
	// serve answers anything but CLOSE.
	serve(*request) message
	// close is CLOSE, whose error the client is told.
	close() error
	// gone is instead of close, when the client is.
	gone()
	// hurry ends what serve waits for; of any goroutine.
	hurry()
}

// speak serves a client until it has no more requests, and all are answered.
func (g *guest) speak(over io.ReadWriter) error {
	s := &subsystem{g: g, io: over, gate: newGate(), order: order{map[string]*turn{}}, replies: make(chan *request, maxRequests), handles: map[string]*handle{}}
	s.here, s.leaves = context.WithCancel(g.hard)
	defer s.leaves()
	written := make(chan struct{})
	go func() { defer close(written); s.write() }()
	err := s.read()
	s.leaves()
	s.abandon()
	s.work.Wait()
	close(s.replies)
	<-written
	return err
}

// write sends replies. When that fails, the client is gone, and the reader sees it too.
func (s *subsystem) write() {
	failed := false
	for r := range s.replies {
		if !failed {
			_, err := s.io.Write(r.reply)
			failed = err != nil
			s.g.active()
		}
		s.gate.leave(r.cost)
		s.g.end()
	}
}

// answer has a reply sent, the only one of its request.
func (s *subsystem) answer(r *request, m message) {
	r.reply, r.f = m, fields{}
	s.replies <- r
}

// abandon ends what was not closed.
func (s *subsystem) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for _, h := range s.handles {
		h.hurry()
		close(h.queue)
	}
	s.handles = nil
}

func violation(format string, args ...any) error {
	return fault.New("read request", fault.Protocol, format, args...)
}

// read reads requests until there are no more, which is nil, or one that is none.
func (s *subsystem) read() error {
	in := bufio.NewReaderSize(s.io, 64<<10)
	for first := true; ; first = false {
		var head [5]byte
		if _, err := io.ReadFull(in, head[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return fault.Wrap("read request", "", err)
		}
		n, typ := binary.BigEndian.Uint32(head[:]), head[4]
		if n < 5 || n > maxMessage || first != (typ == fxInit) {
			return violation("a message of %d bytes and type %d, where there can be none", n, typ)
		}
		if !s.gate.enter(s.here, int(n)) {
			return nil
		}
		s.g.begin()
		r := &request{typ: typ, cost: int(n), f: fields{b: make([]byte, n-1)}}
		if _, err := io.ReadFull(in, r.f.b); err != nil {
			s.gate.leave(r.cost)
			s.g.end()
			return fault.Wrap("read request", "", err)
		}
		s.g.active()
		r.id = r.f.number() // of INIT: its version
		if first {
			if r.id < 3 {
				s.answer(r, status(0, unsupported("begin", "version 3 of SFTP is what this server speaks")))
				return violation("version %d, which is too old", r.id)
			}
			s.answer(r, s.version())
			continue
		}
		s.dispatch(r)
	}
}

// version is the reply to INIT.
func (s *subsystem) version() message {
	m := newMessage(fxVersion, 3, 128).text(extSync).text("1").text(extLimits).text("1")
	if s.g.can.Write {
		m = m.text(extWhole).text("1").text(extGiveUp).text("1")
	}
	if s.g.can.Rename {
		m = m.text(extRename).text("1")
	}
	return m.seal()
}

// dispatch has a request served. It does not wait for the node.
func (s *subsystem) dispatch(r *request) {
	switch r.typ {
	case fxClose, fxRead, fxWrite, fxFstat, fxFsetstat, fxReaddir:
		s.ofHandle(r, r.f.text())
	case fxOpen:
		s.openFile(r)
	case fxOpendir:
		s.openDirectory(r)
	case fxExtended:
		s.extended(r)
	default:
		s.ofName(r)
	}
}

func (s *subsystem) extended(r *request) {
	switch name := r.f.text(); name {
	case extWhole:
		s.openWhole(r)
	case extSync, extGiveUp:
		r.ext = name
		s.ofHandle(r, r.f.text())
	case extRename:
		s.rename(r, true)
	case extLimits:
		s.answer(r, newMessage(fxExtReply, r.id, 32).long(maxMessage).long(maxData).long(maxData).long(maxHandles).seal())
	default:
		s.answer(r, status(r.id, unsupported("extension", "this server does not know %s", fault.Shown(name[:min(len(name), 64)]))))
	}
}

// ofHandle hands a request to the goroutine of its handle.
func (s *subsystem) ofHandle(r *request, name string) {
	s.mu.Lock()
	h := s.handles[name]
	if r.typ == fxClose {
		delete(s.handles, name)
	}
	s.mu.Unlock()
	if h == nil {
		s.answer(r, status(r.id, fault.New("find handle", fault.Invalid, "nothing is open under this handle")))
		return
	}
	switch r.typ {
	case fxClose:
		if h.name != "" {
			h.turn = s.order.enter(h.name)
		}
	case fxRead:
		s.expect(r, maxData)
	case fxReaddir:
		s.expect(r, readdirBytes)
	}
	h.queue <- r
	if r.typ == fxClose {
		close(h.queue)
	}
}

// expect counts what the reply may have.
func (s *subsystem) expect(r *request, bytes int) {
	r.cost += bytes
	s.gate.add(bytes)
}

// place counts a handle that is to be opened.
func (s *subsystem) place() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened >= maxHandles {
		return fault.New("open", fault.Overloaded, "%d files are open or being closed, and no more can be", s.opened)
	}
	s.opened++
	s.g.begin()
	return nil
}

// displace ends the counting.
func (s *subsystem) displace() {
	s.mu.Lock()
	s.opened--
	s.mu.Unlock()
	s.g.end()
}

// open starts the goroutine of what was opened in a place, and returns its handle.
func (s *subsystem) open(f file, name string) string {
	h := &handle{file: f, name: name, queue: make(chan *request, maxRequests)}
	s.mu.Lock()
	s.last++
	id := strconv.FormatUint(s.last, 36)
	if s.over {
		close(h.queue)
	} else {
		s.handles[id] = h
	}
	s.mu.Unlock()
	s.work.Go(func() { s.attend(h) })
	return id
}

// attend serves a handle until CLOSE, or until the client is gone.
func (s *subsystem) attend(h *handle) {
	for r := range h.queue {
		if r.typ != fxClose {
			s.g.busy(func() { s.answer(r, h.serve(r)) })
			continue
		}
		if h.turn != nil {
			_ = h.turn.wait(s.g.hard)
			defer h.turn.leave()
		}
		var err error
		s.g.busy(func() { err = h.close() })
		s.displace() // before the client knows, who may open another
		s.answer(r, status(r.id, err))
		return
	}
	h.gone()
	s.displace()
}
