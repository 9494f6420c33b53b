package ftp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// way is one in which two servers can be told to exchange a file.
type way struct {
	reversed bool // the source listens, and the destination connects
	clear    bool // no TLS
	client   byte // who begins TLS, by SSCN: 's' source, 'd' destination
	cpsv     bool // instead, the one that listens begins TLS, by CPSV
}

// find are the ways to try, in their order. The destination listens first: then a source that
// is missing leaves nothing there. With TLS, one server has to take the client's part; the
// receiving one rather, since a sender that closes with tickets unread resets the
// connection, and the last bytes are lost.
func (p *duo) find() ([]way, error) {
	protected := p.a.prot || p.a.sscn || p.b.prot || p.b.sscn || p.a.s.tls == "require" || p.b.s.tls == "require"
	if p.allowsClear(p.a) && p.allowsClear(p.b) {
		protected = false
	}
	if !protected {
		return []way{{clear: true}, {clear: true, reversed: true}}, nil
	}
	var w []way
	if p.a.tlsState != nil && p.b.tlsState != nil && !p.a.clearOnly && !p.b.clearOnly {
		if p.dst.feat.has("SSCN") {
			w = append(w, way{client: 'd'}, way{client: 'd', reversed: true})
		}
		if p.src.feat.has("SSCN") {
			w = append(w, way{client: 's'}, way{client: 's', reversed: true})
		}
		if p.dst.feat.has("CPSV") {
			w = append(w, way{cpsv: true})
		}
		if p.src.feat.has("CPSV") {
			w = append(w, way{cpsv: true, reversed: true})
		}
	}
	if w == nil {
		e := &fault.Error{Op: "ftp copy", Kind: fault.Unsupported, Subject: p.src.where + " to " + p.dst.where,
			Err: fault.New("fxp", fault.Unsupported, "the two servers cannot encrypt what one sends the other: both need TLS, and one of them SSCN or CPSV")}
		return nil, e.Advise("copy through this end; or set fxp-data=clear at both endpoints, and the file is sent unencrypted")
	}
	return w, nil
}

// allowsClear says whether a file may come or go there unencrypted.
func (p *duo) allowsClear(c *conn) bool { return c.tlsState == nil || c.clearOnly || c.s.fxpClear }

// refusal is that the servers do not let each other; another way may do.
type refusal struct {
	err error
	odd bool // several commands were sent at once, and the one of the file is said to be wrong
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// prepared says whether the protection is that already.
func (c *conn) prepared(clear, client bool) bool {
	return c.tlsState == nil || c.clearOnly || c.sscn == client && c.prot == !clear
}

// prepare sets the protection.
func (c *conn) prepare(ctx context.Context, clear, client bool) error {
	if c.prepared(clear, client) {
		return nil
	}
	set := func(now *bool, want bool, word, on, off string) error {
		if *now == want {
			return nil
		}
		arg := off
		if want {
			arg = on
		}
		_, err := c.must(ctx, word, arg)
		if err == nil {
			*now = want
		}
		return err
	}
	if err := set(&c.sscn, client, "SSCN", "ON", "OFF"); err != nil {
		return err
	}
	return set(&c.prot, !clear, "PROT", "P", "C")
}

// run has the servers exchange the file in one way.
func (p *duo) run(ctx context.Context, w way) error {
	if p.offset > 0 { // as it is now
		n, err := p.b.size(ctx, p.part)
		if err != nil {
			return err
		}
		if n > p.size {
			return p.b.said(fault.Corrupt, "STOR", p.to, "what an earlier copy has left is longer than the file")
		}
		p.offset = n
	}
	if !p.a.prepared(w.clear, w.client == 's') || !p.b.prepared(w.clear, w.client == 'd') {
		err := p.both(func() error { return p.a.prepare(ctx, w.clear, w.client == 's') },
			func() error { return p.b.prepare(ctx, w.clear, w.client == 'd') })
		if err != nil {
			return p.maybe(err)
		}
	}
	get, put := "RETR "+p.from, "STOR "+p.part
	listens, connects, purpose := p.b, p.a, put
	if w.reversed {
		listens, connects, purpose = p.a, p.b, get
	}
	var err error
	at := p.at
	p.at = netip.AddrPort{}
	switch {
	case at.IsValid() && listens == p.b && !w.cpsv:
	case w.cpsv:
		at, err = listens.passiveBy(ctx, "CPSV", purpose)
	default:
		at, err = listens.passive(ctx, purpose)
	}
	if err != nil {
		return p.maybe(err)
	}
	first, second := get, put
	if w.reversed {
		first, second = put, get
	}
	from, to := &side{c: p.a, word: "RETR", path: p.from}, &side{c: p.b, word: "STOR", path: p.to}
	caller := from
	if w.reversed {
		caller = to
	}
	fast, err := caller.connect(ctx, at, first, p.offset)
	if err != nil {
		return err
	}
	if !fast {
		r, err := connects.port(ctx, at)
		if err != nil {
			return err
		}
		if !r.good() {
			return &refusal{err: connects.refused("EPRT", "", r)}
		}
		connects.listens = false
		if p.offset > 0 {
			err = p.both(func() error { return p.a.rest(ctx, p.from, p.offset) }, func() error { return p.b.rest(ctx, p.part, p.offset) })
			if err != nil {
				return err
			}
		}
		// The one that connects goes first. Neither reply is waited for: with TLS, each may
		// come only when both have begun.
		if err := connects.send(ctx, first); err != nil {
			return err
		}
	}
	if err := listens.send(ctx, second); err != nil {
		connects.kill()
		return err
	}
	err = p.follow(ctx, from, to)
	var no *refusal
	if errors.As(err, &no) {
		no.odd = no.odd && fast
	}
	if fast {
		connects.s.reaches(at.Addr(), err == nil)
	}
	return err
}

// connect has a server connect to an address, and begin, with two commands at once. It has
// done nothing if it returns false. Not from an offset: a server that refuses REST would
// begin at another. Nor while the server listens: one that refuses the address would wait
// for somebody to come. One that has connected to the host before will again: then the
// reply to EPRT is not waited for either.
func (s *side) connect(ctx context.Context, to netip.AddrPort, line string, offset int64) (bool, error) {
	c := s.c
	if offset > 0 || c.listens || !c.s.pipelines() {
		return false, nil
	}
	if err := c.send(ctx, eprt(to), line); err != nil {
		return false, err
	}
	if c.s.reached(to.Addr()) {
		s.port = true
		return true, nil
	}
	r, err := c.answer(ctx, "EPRT", c.s.timeout)
	if err != nil || r.good() {
		return err == nil, err
	}
	c.s.serial() // as long as it does not know EPRT, or refuses the address, the other fails, too
	_, err = c.answer(ctx, wordOf(line), c.s.grace())
	return false, err
}

// maybe is err as a refusal, if the server said so and the connection lives.
func (p *duo) maybe(err error) error {
	if k := fault.KindOf(err); (k == fault.Unsupported || k == fault.Permission || k == fault.Refused) && !p.a.dead.Load() && !p.b.dead.Load() {
		return &refusal{err: err}
	}
	return err
}

func (c *conn) rest(ctx context.Context, path string, offset int64) error {
	r, err := c.command(ctx, rest(offset))
	if err == nil && r.code != 350 {
		err = c.refused("REST", path, r)
	}
	return err
}

// side is how far one of the servers is.
type side struct {
	c     *conn
	word  string
	path  string
	port  bool  // it will first say whether it takes the address
	began bool  // it has said 1xx
	final reply // code 0: not yet
	err   error // of the connection
}

// said is what came on a control connection during a transfer.
type said struct {
	side *side
	r    reply
	err  error
}

// follow waits until both servers have said how it ended. That takes as long as the
// destination's size grows; once it does not for the timeout, or one of them has failed,
// the other is interrupted, and its connection given up.
func (p *duo) follow(ctx context.Context, src, dst *side) error {
	if p.size < resumable && p.swift(ctx, src, dst) {
		return p.outcome(ctx, src, dst)
	}
	replies := make(chan said)
	done := make(chan struct{})
	defer close(done)
	var why error
	for _, s := range []*side{src, dst} {
		switch {
		case s.open():
			_ = s.c.raw.SetReadDeadline(time.Time{})
			go s.listen(s.port, replies, done)
		case !s.final.good():
			why = errEnded
		}
	}
	sizes := make(chan int64)
	polling, end := context.WithCancel(ctx)
	defer end()
	go p.poll(polling, sizes)

	patience := p.dst.timeout
	stall := time.NewTimer(0)
	defer stall.Stop()
	patient := func() {
		if src.idle() && dst.final.good() || dst.idle() && src.final.good() {
			stall.Reset(p.dst.grace())
		} else {
			stall.Reset(patience)
		}
	}
	patient()
	last := p.offset
	for why == nil && (src.open() || dst.open()) {
		select {
		case m := <-replies:
			m.side.note(m)
			patient()
			if m.err != nil || (m.r.code >= 200 && !m.r.good()) {
				why = errEnded
			}
		case n, ok := <-sizes:
			switch {
			case !ok: // nobody tells: as long as 1 MB/s would take
				sizes = nil
				patience += time.Duration((p.size-last)>>20) * time.Second
				stall.Reset(patience)
			case n > last:
				last = n
				p.progress(n)
				stall.Reset(patience)
			}
		case <-stall.C:
			why = p.silent(src, dst)
		case <-ctx.Done():
			why = failed(ctx, "copy", p.src.where+" to "+p.dst.where, ctx.Err())
		}
	}
	end()
	if why != nil {
		p.stop(src, dst, replies, why == errEnded)
	}
	if why == nil || why == errEnded {
		return p.outcome(ctx, src, dst)
	}
	return why
}

// swift is follow for as long as most small files take, without anybody else: for them,
// going from one goroutine to the next would take longer than the transfer. The
// destination ends last: when it has, the source's replies are there. It returns whether
// both have said that it ended well.
func (p *duo) swift(ctx context.Context, src, dst *side) bool {
	until := time.Now().Add(200 * time.Millisecond)
	for _, s := range []*side{dst, src} {
		for s.open() {
			if ctx.Err() != nil || !s.c.whole(ctx, time.Until(until)) {
				return false
			}
			r, err := readReply(s.c.r)
			s.note(said{s, r, err})
		}
		if !s.final.good() {
			return false
		}
	}
	return true
}

// whole waits until a reply has come whole, and leaves it unread.
func (c *conn) whole(ctx context.Context, wait time.Duration) bool {
	defer c.within(ctx, wait)()
	for {
		n := c.r.Buffered()
		if b, _ := c.r.Peek(n); n > 0 {
			if _, err := readReply(bufio.NewReader(bytes.NewReader(b))); !errors.Is(err, io.EOF) {
				return true
			}
		}
		if _, err := c.r.Peek(n + 1); err != nil {
			return false
		}
	}
}

var errEnded = errors.New("one has ended")

func (s *side) open() bool { return s.final.code == 0 && s.err == nil }

// idle says that the server has not begun: one that does not let the other connect, as
// pure-ftpd, just waits on, while the other thinks that this was all.
func (s *side) idle() bool { return s.open() && !s.began }

func (s *side) note(m said) {
	switch {
	case m.err != nil:
		s.err = m.err
		s.c.kill()
	case m.r.code < 200:
		s.began = true
	case s.port && m.r.good():
		s.port = false
	default:
		s.final = m.r
		if m.r.code == 421 || s.port { // one more reply would come
			s.c.kill()
		}
	}
}

// listen reads replies until the final one. When nobody wants them any more, the
// connection is of no use either.
func (s *side) listen(port bool, to chan<- said, done <-chan struct{}) {
	for n := 0; ; n++ {
		r, err := readReply(s.c.r)
		if err == nil && n > 100 {
			err = fault.New("reply", fault.Protocol, "the server announces without end that it will reply")
		}
		select {
		case to <- said{s, r, err}:
		case <-done:
			s.c.kill()
			return
		}
		if err != nil || r.code >= 200 && !(port && r.good()) {
			return
		}
		port = port && r.code < 200
	}
}

// poll asks on a third connection how much the destination has, if it lets one have a
// third. It closes sizes when it cannot tell.
func (p *duo) poll(ctx context.Context, sizes chan<- int64) {
	every := min(2*time.Second, p.dst.timeout/4)
	t := time.NewTicker(every)
	defer t.Stop()
	var c *conn
	defer func() {
		if c != nil {
			p.dst.give(c)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		var n int64
		var err error
		if c == nil {
			c, err = p.dst.spare(ctx)
		}
		if err == nil && c != nil {
			n, err = c.size(ctx, p.part)
		}
		if ctx.Err() != nil {
			return
		}
		if c == nil || c.dead.Load() || (err != nil && n == 0 && fault.KindOf(err) != fault.NotFound) {
			close(sizes)
			return
		}
		select {
		case sizes <- n:
		case <-ctx.Done():
			return
		}
	}
}

// spare is an unused or new connection, or nothing, if it would have to be waited for.
func (s *session) spare(ctx context.Context) (*conn, error) {
	c, wait, err := s.try(false)
	if c != nil || err != nil || wait != nil {
		return c, err
	}
	if c, err = s.dial(ctx); err != nil {
		s.failed(err, false)
		return nil, err
	}
	return s.made(c, false)
}

// stop ends what still runs. After a failure of one server the other mostly ends by itself.
func (p *duo) stop(src, dst *side, replies <-chan said, ended bool) {
	wait := func(d time.Duration) {
		t := time.NewTimer(d)
		defer t.Stop()
		for src.open() || dst.open() {
			select {
			case m := <-replies:
				m.side.note(m)
			case <-t.C:
				return
			}
		}
	}
	if ended {
		wait(min(p.dst.grace(), 500*time.Millisecond))
	}
	var asked []*side
	for _, s := range []*side{src, dst} {
		if s.open() {
			s.c.interrupt()
			asked = append(asked, s)
		}
	}
	wait(p.dst.grace())
	for _, s := range asked { // how many replies come to what was asked, nobody knows
		s.c.kill()
	}
}

func (p *duo) silent(src, dst *side) error {
	s := src
	if !src.open() {
		s = dst
	}
	if src.idle() != dst.idle() && (src.final.good() || dst.final.good()) {
		return &refusal{err: s.c.said(fault.Refused, s.word, s.path, "the server does not begin, although the other one has connected")}
	}
	return s.c.said(fault.DeadPeer, s.word, s.path, "the destination got nothing more for %v, and the end was not confirmed", p.dst.timeout)
}

// outcome is what the two final replies mean together.
func (p *duo) outcome(ctx context.Context, src, dst *side) error {
	if src.final.good() && dst.final.good() {
		src.c.listens, dst.c.listens = false, false
		return nil
	}
	for _, s := range []*side{dst, src} { // who refuses a connection of the other says 425, or nothing but 500
		if c := s.final.code; s.port && c != 0 || c == 425 || c == 522 || (c >= 500 && c <= 504 && !s.began) {
			return &refusal{s.c.refused(s.word, s.path, s.final), s.port || c >= 500 && c <= 504}
		}
	}
	var lost error
	for _, s := range []*side{dst, src} {
		switch {
		case s.final.code != 0 && !s.final.good() && s.final.code != 426:
			return s.c.refused(s.word, s.path, s.final)
		case s.err != nil:
			lost = failed(ctx, s.word, s.c.at(s.path), s.err)
		case lost == nil && s.final.code == 426:
			lost = s.c.refused(s.word, s.path, s.final)
		case lost == nil && s.open():
			lost = s.c.said(fault.DeadPeer, s.word, s.path, "the server has not said how the transfer ended")
		}
	}
	return lost
}
