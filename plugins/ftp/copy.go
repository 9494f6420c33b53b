package ftp

import (
	"context"
	"errors"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// Copy is FXP: both servers are told to connect to one another, and the bytes never come
// here. It is off unless both endpoints name each other in fxp.
func (s *session) Copy(ctx context.Context, name string, to plugins.Session, toName string, req plugins.CopyRequest) (res plugins.CopyResult, err error) {
	d, ok := to.(*session)
	if !ok {
		return res, fault.New("ftp copy", fault.Unsupported, "the other session is not of this driver")
	}
	from, err := s.path(name)
	if err != nil {
		return res, err
	}
	target, err := d.path(toName)
	if err != nil {
		return res, err
	}
	if s.whole() || d.whole() {
		return res, fault.New("ftp copy", fault.Unsupported, "a server that judges files before it confirms them exchanges none with others directly")
	}
	if err := errors.Join(s.allows(d), d.allows(s)); err != nil {
		return res, err
	}
	tok, err := parseToken(req.Resume, "")
	if err != nil {
		return res, err
	}
	p := &duo{src: s, dst: d, from: from, to: target, part: tok.part(target), token: tok, told: req.Progress}
	return p.copy(ctx, req.Resume)
}

// allows says whether the endpoint's option names the other server.
func (s *session) allows(o *session) error {
	if slices.Contains(s.fxp, "any") || slices.Contains(s.fxp, strings.ToLower(o.host)) || slices.Contains(s.fxp, strings.ToLower(o.address)) {
		return nil
	}
	kind := fault.Permission
	if len(s.fxp) == 0 {
		kind = fault.Unsupported
	}
	e := &fault.Error{Op: "ftp copy", Kind: kind, Subject: s.where, Err: fault.New("fxp", kind, "the endpoint does not allow direct copies with %s", fault.Shown(o.where))}
	return e.Advise("add %s to its option fxp, or any; and the same at the other endpoint", o.host)
}

// duo is one copy.
type duo struct {
	src, dst *session
	a, b     *conn // of src and dst; nil: not taken
	from, to string
	part     string
	token    token
	told     func(int64, []byte)

	kept   bool      // the caller was told how to go on
	size   int64     // of the source
	time   time.Time // of the source; zero: it was not asked, or does not say
	offset int64     // where the transfer begins

	ways  []way
	at    netip.AddrPort // where b listens already, for the first of the ways; or zero
	ready bool           // b has taken RNFR of the part, directly before
	is    content        // of the part, as verify has found it
}

// progress tells what the destination has of a file that can be gone on with, and how. Of
// others there is nothing to tell that would not be over in a moment.
func (p *duo) progress(offset int64) {
	if p.told == nil || p.size < resumable {
		return
	}
	var resume []byte
	if offset < p.size && !p.kept {
		p.kept, resume = true, p.token.bytes()
	}
	p.told(offset, resume)
}

// take takes a connection at each server. All who do take first at the older session, so
// that no two wait for one another. At one server, the one that is to be written with is a
// writer's, of which there are never so many that none is left for the other.
func (p *duo) take(ctx context.Context) (err error) {
	first, second := &p.a, &p.b
	s1, s2 := p.src, p.dst
	if s2.number <= s1.number {
		first, second, s1, s2 = second, first, s2, s1
	}
	if p.b == nil {
		p.dst.anew()
	}
	if *second != nil && *first == nil { // in the order, or not at all
		s2.give(*second)
		*second = nil
	}
	if *first == nil {
		if *first, err = s1.takeTo(ctx, s1 == s2); err != nil {
			return err
		}
	}
	if *second != nil {
		return nil
	}
	if s1 == s2 {
		(*first).fed.Store(1) // it gets nothing before the other is there
	}
	if *second, err = s2.take(ctx); err != nil && s1 == s2 && s1.single() {
		e := &fault.Error{Op: "ftp copy", Kind: fault.Unsupported, Side: fault.Here, Subject: s1.where,
			Err: fault.New("connection", fault.Unsupported, "a copy at one server needs two connections, and there can be one")}
		return e.Advise("allow more connections here (connections), or at the server")
	}
	return err
}

// give returns both; renew only those that are dead.
func (p *duo) give() {
	for _, c := range []**conn{&p.a, &p.b} {
		if *c != nil {
			(*c).s.give(*c)
			*c = nil
		}
	}
}

func (p *duo) renew(ctx context.Context) error {
	if p.b != nil && p.b.dead.Load() {
		p.at = netip.AddrPort{}
	}
	for _, c := range []**conn{&p.a, &p.b} {
		if *c != nil && (*c).dead.Load() {
			(*c).s.give(*c)
			*c = nil
		}
	}
	return p.take(ctx)
}

// both does something at each server at the same time.
func (p *duo) both(f func() error, g func() error) error {
	var wg sync.WaitGroup
	var err error
	wg.Add(1)
	go func() {
		defer wg.Done()
		err = g()
	}()
	first := f()
	wg.Wait()
	if first != nil {
		return first
	}
	return err
}

func (p *duo) copy(ctx context.Context, resume []byte) (res plugins.CopyResult, err error) {
	defer p.give()
	if err := p.begin(ctx); err != nil {
		return plugins.CopyResult{Resume: resume}, err
	}
	if err := p.look(ctx, resume != nil); err != nil {
		return plugins.CopyResult{Resume: resume}, err // what an earlier copy has left is still there
	}
	p.progress(p.offset)
	if p.offset < p.size || p.size == 0 {
		if err := p.transfer(ctx); err != nil {
			return p.failed(ctx, err)
		}
	}
	if res.Verified, err = p.verify(ctx); err != nil {
		return p.failed(ctx, err)
	}
	if err := p.dst.publish(ctx, p.b, p.part, p.to, p.is, p.ready); err != nil {
		return p.failed(ctx, err)
	}
	res.Bytes = p.size
	p.progress(p.size)
	return res, nil
}

// resumable is the least size, in bytes, of a file that a later copy goes on with: a
// smaller one is not worth asking for its time.
const resumable = 1 << 20

// begin takes the connections, and finds out how to speak with the servers.
func (p *duo) begin(ctx context.Context) (err error) {
	if err := p.take(ctx); err != nil {
		return err
	}
	if err := errors.Join(p.a.probe(ctx), p.b.probe(ctx)); err != nil {
		return err
	}
	if err := p.renew(ctx); err != nil {
		return err
	}
	p.ways, err = p.find()
	return err
}

// look finds the size of the source, and where to go on: at what the destination has, if
// the source is the one that an earlier copy saw. A destination that has nothing of it
// listens meanwhile.
func (p *duo) look(ctx context.Context, resume bool) error {
	ask := []string{"SIZE " + p.part}
	dir, word := "", "" // of the destination: asked for, and has it listen
	if !resume {
		ask = nil
		if dir = path.Dir(p.to); p.dst.there(dir) {
			dir = ""
		} else {
			ask = append(ask, "CWD "+dir)
		}
		if w := p.ways[0]; !w.reversed && !w.cpsv && p.b.prepared(w.clear, w.client == 'd') {
			word = p.b.passiveWord()
			ask = append(ask, p.b.toListen(word, "STOR "+p.part)...)
		}
	}
	of := []string{"SIZE " + p.from}
	if p.dst.timeWord() != "" {
		of = append(of, "MDTM "+p.from)
	}
	fromA, fromB, err := p.ask(ctx, of, ask)
	if err != nil {
		return err
	}
	var none error
	if dir != "" {
		none = p.b.placed(dir, fromB[0])
		fromB = fromB[1:]
	}
	if word != "" { // whatever else is wrong: that it listens has to be known
		if p.at, err = p.b.listening(ctx, word, fromB); err != nil && p.b.dead.Load() {
			return err
		}
	}
	if p.size, err = p.a.sizeOf(p.from, fromA[0]); err != nil {
		return err
	}
	if none != nil {
		return none
	}
	var have, modified int64
	switch {
	case len(of) > 1:
		p.time = timeOf(fromA[1])
	case p.size >= resumable:
		if p.time, err = p.a.modified(ctx, p.from); err != nil {
			return err
		}
	}
	if p.size >= resumable && !p.time.IsZero() {
		modified = p.time.Unix()
	}
	if resume {
		if have, err = p.b.sizeOf(p.part, fromB[0]); fault.KindOf(err) == fault.NotFound {
			have, err = 0, nil
		}
		if err != nil { // whether there is something, nobody knows
			return err
		}
	}
	same := p.size >= resumable && p.token.Size == p.size && p.token.Modified == modified
	p.token.Size, p.token.Modified = p.size, modified
	switch {
	case have == 0:
	case same && have <= p.size:
		p.offset = have
	default:
		_, err = p.b.must(ctx, "DELE", p.part)
		return err
	}
	return nil
}

// transfer has the servers exchange the file, in the first of the ways that they agree to.
func (p *duo) transfer(ctx context.Context) error {
	var no []error
	for _, w := range p.ways {
		err := p.attempt(ctx, w)
		var refused *refusal
		if errors.As(err, &refused) && refused.odd { // perhaps of several commands at once
			p.src.serial()
			p.dst.serial()
			err = p.attempt(ctx, w)
		}
		if err == nil || !errors.As(err, &refused) {
			return err
		}
		no = append(no, refused.err)
	}
	return p.forbidden(no)
}

func (p *duo) attempt(ctx context.Context, w way) error {
	if err := p.renew(ctx); err != nil {
		return err
	}
	return p.run(ctx, w)
}

// forbidden is the one error of two servers that do not let each other.
func (p *duo) forbidden(no []error) error {
	e := &fault.Error{Op: "ftp copy", Kind: fault.Refused, Side: fault.Peer, Subject: p.src.where + p.from + " to " + p.dst.where + p.to}
	var settings []string
	for _, err := range no {
		var one *fault.Error
		if errors.As(err, &one) {
			one.Advice = "" // there is one for all
		}
	}
	e.Err = errors.Join(no...)
	for _, s := range []*session{p.src, p.dst} {
		if set := s.setting(no); set != "" && !slices.Contains(settings, set) {
			settings = append(settings, set)
		}
	}
	return e.Advise("the servers do not let each other: allow direct transfers (FXP) at the one that refused: %s; or copy through this end", strings.Join(settings, "; "))
}

// setting is what allows FXP at a server.
func (s *session) setting(no []error) string {
	software := s.software()
	if software == "" {
		for _, err := range no {
			if text := err.Error(); strings.Contains(text, s.where) {
				switch {
				case strings.Contains(text, "Security: Bad IP connecting"), strings.Contains(text, "Illegal PORT command."):
					software = "vsftpd"
				case strings.Contains(text, "I won't open a connection to"):
					software = "pure-ftpd"
				case strings.Contains(text, "Illegal PORT command"), strings.Contains(text, "Unable to build data connection"):
					software = "proftpd"
				}
			}
		}
	}
	all := map[string]string{
		"vsftpd":    "pasv_promiscuous=YES and port_promiscuous=YES (vsftpd)",
		"proftpd":   "AllowForeignAddress on, or a class of hosts (proftpd)",
		"pure-ftpd": "AllowUserFXP yes, or -w (pure-ftpd)",
	}
	at := "at " + s.address + " "
	if set := all[software]; set != "" {
		return at + set
	}
	return at + strings.Join([]string{all["vsftpd"], all["proftpd"], all["pure-ftpd"]}, ", ")
}

// software is the server's, if its greeting says.
func (s *session) software() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		b := strings.ToLower(c.banner)
		for _, k := range []string{"vsftpd", "proftpd", "pure-ftpd"} {
			if strings.Contains(b, k) {
				return k
			}
		}
	}
	return ""
}

// other is why the destination has another size than the source had before.
func (p *duo) other(ctx context.Context, have int64) error {
	now, err := p.a.size(ctx, p.from)
	switch {
	case err != nil:
		return err
	case now != p.size:
		return p.a.said(fault.SourceChanged, "RETR", p.from, "the source has %d bytes, and had %d", now, p.size)
	}
	return p.b.said(fault.Corrupt, "STOR", p.to, "both servers have confirmed, and the destination has %d bytes of %d", have, p.size)
}

// verify compares what the two servers have, as far as both can. If that is by size, the
// server has been told what is to be renamed, too. A source that grows is found by what
// it has sent, and one that was written anew, with the same size, by its time, which it is
// asked for together with the other: what has come may be the one's beginning and the other's end.
func (p *duo) verify(ctx context.Context) (string, error) {
	if err := p.renew(ctx); err != nil {
		return "", err
	}
	by, hash := common(p.src.caps.Checksums, p.dst.caps.Checksums)
	hash = hash && p.src.hash && p.dst.hash
	ask := []string{"SIZE " + p.part}
	var naming []string
	if !hash {
		naming = p.naming()
		ask = append(ask, naming...)
	}
	var of []string
	if !p.time.IsZero() {
		of = []string{"MDTM " + p.from}
	}
	now, said, err := p.ask(ctx, of, ask)
	if err != nil {
		return "", err
	}
	have, err := p.b.sizeOf(p.part, said[0])
	switch {
	case err != nil:
		return "", p.b.vanished(p.to, p.size, err)
	case of != nil && p.rewritten(now[0]):
		return "", p.a.said(fault.SourceChanged, "MDTM", p.from, "the source was written at %v, and before the copy it had been at %v", timeOf(now[0]), p.time)
	case have != p.size:
		return "", p.other(ctx, have)
	}
	if p.is = (content{size: p.size}); !hash {
		p.named(naming, said[1:])
		return "size", nil
	}
	var x, y []byte
	err = p.both(func() (err error) {
		x, err = p.a.checksum(ctx, p.from, by, -1)
		return err
	}, func() (err error) {
		y, err = p.b.checksum(ctx, p.part, by, -1)
		return err
	})
	verified := by.name
	switch {
	case err != nil && fault.KindOf(err) == fault.Unsupported: // of these names
		verified = "size"
	case err != nil:
		return "", err
	case string(x) != string(y):
		return "", p.b.said(fault.Corrupt, "STOR", p.to, "the source has %s %x, the destination %x", by.name, x, y).
			Advise("copy again; if it happens again, the way between the servers, or a disk there, changes bytes")
	default:
		p.is.alg, p.is.sum = by, x
	}
	if err := p.renew(ctx); err != nil {
		return "", err
	}
	naming = p.naming()
	if _, said, err = p.ask(ctx, nil, naming); err != nil {
		return "", err
	}
	p.named(naming, said)
	return verified, nil
}

// rewritten says whether the source has another time now than before; a server that does not
// say any more says nothing of it.
func (p *duo) rewritten(now reply) bool {
	t := timeOf(now)
	return !t.IsZero() && !t.Equal(p.time)
}

// naming is what the destination is told before RNTO: the time of the file, if it takes one, and
// what is to be renamed. If it takes none, and has no checksum either, it is asked for the time that
// the file has: by that it is known under its name.
func (p *duo) naming() (lines []string) {
	if line := p.dst.timing(p.part, p.time); line != "" {
		lines = append(lines, line)
	} else if p.is.sum == nil && p.dst.feat.has("MDTM") {
		lines = append(lines, "MDTM "+p.part)
	}
	return append(lines, "RNFR "+p.part)
}

// named notes what the destination has said to naming.
func (p *duo) named(lines []string, said []reply) {
	last := len(said) - 1
	p.ready = said[last].code == 350
	if last == 0 {
		return
	}
	if lines[0] != "MDTM "+p.part {
		if said[0].good() {
			p.is.time = p.time
		}
		return
	}
	p.is.time = timeOf(said[0])
}

// failed is the result of a copy that failed: what the destination has is kept, if going
// on with it is of use.
func (p *duo) failed(ctx context.Context, cause error) (plugins.CopyResult, error) {
	var res plugins.CopyResult
	p.give()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*p.dst.grace())
	defer cancel()
	kind := fault.KindOf(cause)
	bad := kind == fault.Corrupt || kind == fault.SourceChanged || p.size < resumable
	unknown := p.dst.with(ctx, func(c *conn) error {
		cause = c.unplaced(ctx, p.to, cause)
		n, err := c.size(ctx, p.part)
		if err != nil {
			if fault.KindOf(err) == fault.NotFound { // there is none
				return nil
			}
			return err
		}
		if n == 0 || bad {
			_, err = c.must(ctx, "DELE", p.part)
			return err
		}
		res.Bytes = n
		return nil
	})
	if !bad && (res.Bytes > 0 || unknown != nil) {
		res.Resume = p.token.bytes()
	}
	return res, cause
}

func rest(offset int64) string { return "REST " + strconv.FormatInt(offset, 10) }
