package sftpd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// maxKept is how many bytes a download keeps that were passed over.
const maxKept = 2 << 20

// download is a file that a client reads. The node gives its bytes in order, and where
// the client has asked for later ones first, those between are kept until they are.
type download struct {
	s      *subsystem
	ctx    context.Context // of the bytes
	stop   context.CancelFunc
	name   string
	attr   plugins.Attr
	begun  bool
	stream io.ReadCloser // nil: none
	at     int64         // where it is
	end    int64         // of the file, confirmed by the node; -1: not known
	kept   pieces
	err    error
}

func (s *subsystem) newDownload(name string, a plugins.Attr) file {
	ctx, stop := context.WithCancel(s.g.hard)
	return &download{s: s, ctx: ctx, stop: stop, name: name, attr: a, end: -1, kept: pieces{budget: s.g.early}}
}

func (d *download) hurry() { d.stop() }

func (d *download) serve(r *request) message {
	switch r.typ {
	case fxRead:
		offset, n := r.f.long(), r.f.number()
		if r.f.bad {
			return status(r.id, errMalformed)
		}
		return d.read(r.id, offset, int(min(n, maxData)))
	case fxFstat:
		return newMessage(fxAttrs, r.id, 32).attr(d.attr).seal()
	}
	return status(r.id, unsupported("request", "the file is open for reading"))
}

func (d *download) read(id uint32, offset uint64, n int) message {
	if d.err == nil && offset > 1<<62 {
		return status(id, io.EOF)
	}
	m := newMessage(fxData, id, 4+n).number(0)
	room := m[len(m) : len(m)+n]
	got := 0
	if d.err == nil {
		got, d.err = d.fill(room, int64(offset))
	}
	switch {
	case d.err != nil:
		return status(id, d.err)
	case got == 0 && n > 0:
		return status(id, io.EOF)
	}
	m = m[:len(m)+got]
	binary.BigEndian.PutUint32(m[headBytes:], uint32(got))
	return m.seal()
}

// fill reads b, and less only at the end of the file. The last bytes of a file are only
// given when the node has confirmed that they are all.
func (d *download) fill(b []byte, at int64) (n int, err error) {
	for n < len(b) {
		pos := at + int64(n)
		if m := d.kept.copy(b[n:], pos); m > 0 {
			n += m
			continue
		}
		if d.end >= 0 && pos >= d.end {
			break
		}
		if err := d.seek(pos); err != nil {
			return n, err
		}
		m, err := d.next(b[n:], pos)
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// seek has a stream that is at pos or a little before it.
func (d *download) seek(pos int64) error {
	if d.stream != nil && d.at <= pos && (pos-d.at <= maxKept || !d.s.g.can.Offsets) {
		return nil
	}
	if before := d.stream; before != nil { // closed only when the other is open: a node need not fetch the file again, and may have another then
		defer before.Close()
	}
	d.stream = nil
	d.kept.clear()
	d.at = 0
	if d.s.g.can.Offsets && (d.begun || pos > maxKept) { // a first request near the beginning has overtaken that for the beginning
		if d.at = pos; d.attr.Size >= 0 {
			d.at = min(pos, d.attr.Size) // beyond the end a node refuses to begin
		}
	}
	d.begun = true
	var err error
	d.stream, err = d.s.g.session.Read(d.ctx, d.name, d.at)
	return err
}

func (d *download) drop() {
	if d.stream != nil {
		_ = d.stream.Close()
		d.stream = nil
	}
}

// next reads on: into b if the stream is at pos, otherwise what is before.
func (d *download) next(b []byte, pos int64) (n int, err error) {
	if d.at == pos {
		n, err = d.stream.Read(b)
		d.at += int64(n)
		return n, d.over(err)
	}
	skipped := make([]byte, min(pos-d.at, 64<<10))
	n, err = d.stream.Read(skipped)
	if n > 0 {
		d.keep(d.at, bytes.Clone(skipped[:n]))
	}
	d.at += int64(n)
	return 0, d.over(err)
}

// keep has bytes for later, if there is room; the first ones make it.
func (d *download) keep(at int64, data []byte) {
	for len(d.kept.all) > 0 && d.kept.bytes()+len(data)+pieceCosts > maxKept {
		d.kept.remove(0)
	}
	_ = d.kept.put(at, data) // what is not kept is read again
}

// over looks at what came with bytes. At the end, and where the end should be, the node
// is asked to confirm it.
func (d *download) over(err error) error {
	if err == nil && d.at == d.attr.Size {
		var more [1]byte
		var n int
		if n, err = io.ReadFull(d.stream, more[:]); n > 0 { // it has grown
			d.keep(d.at, more[:])
			d.at++
			return nil
		}
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, io.EOF) {
		d.drop()
		return fault.Wrap("read", "", err)
	}
	err = d.stream.Close()
	d.stream, d.end = nil, d.at
	return fault.Wrap("read", "", err)
}

func (d *download) close() error {
	d.gone()
	return d.err
}

func (d *download) gone() {
	d.drop()
	d.kept.clear()
	d.stop()
}
