package rpctest

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"

	"google.golang.org/grpc/status"
	"lukechampine.com/blake3"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// played is what came out of a case.
type played struct {
	c       Case
	x       Expectation
	payload []byte // what has to move
	before  State
	after   State
	extra   []string // names at the sink that nobody asked for

	call    error // of the client's call
	ran     bool  // the handler
	handler error // what the server's Run has said

	client, server *sideeffect.Descriptor
}

// source and sink are the ends' descriptors.
func (p *played) source() *sideeffect.Descriptor {
	if p.c.clientSends() {
		return p.client
	}
	return p.server
}

func (p *played) sink() *sideeffect.Descriptor {
	if p.c.clientSends() {
		return p.server
	}
	return p.client
}

// wrong lists what is not as expected.
func (p *played) wrong() (w []string) {
	note := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	if len(p.extra) > 0 {
		note("left behind: %q", p.extra)
	}
	if len(p.x.Reasons) == 0 {
		p.success(note)
	} else {
		p.failure(note)
	}
	return w
}

type noter func(format string, args ...any)

func (p *played) success(note noter) {
	if p.call != nil || p.handler != nil || !p.ran {
		note("call: %v; handler (ran: %v): %v", p.call, p.ran, p.handler)
	}
	if want := After(p.c, p.before, p.payload); !same(p.after, want) {
		note("the sink holds %s, want %s", p.after.brief(), want.brief())
	}
	for _, d := range []*sideeffect.Descriptor{p.client, p.server} {
		end := p.end(d)
		if p.x.Unheard && d == p.server {
			p.unheard(note, d)
		} else if d.LocalStatus != sideeffect.Success || d.RemoteStatus != sideeffect.Success || d.BytesTransferred != p.x.Moved {
			note("%s: %v here, %v there, %d bytes of %d", end, d.LocalStatus, d.RemoteStatus, d.BytesTransferred, p.x.Moved)
		}
		if d.Err != nil || d.QuotaExceeded != p.x.Exceeded || d.Result.Road != p.x.Road || d.ResumedFrom != 0 {
			note("%s: error %v, quota exceeded %v, road %v, resumed from %d", end, d.Err, d.QuotaExceeded, d.Result.Road, d.ResumedFrom)
		}
		p.digest(note, d)
	}
}

// unheard is a source that has done all it can, and may not know more.
func (p *played) unheard(note noter, d *sideeffect.Descriptor) {
	if d.LocalStatus != sideeffect.Success || d.RemoteStatus != sideeffect.InProgress && d.RemoteStatus != sideeffect.Success ||
		d.BytesTransferred > p.x.Moved {
		note("server: %v here, %v there, %d bytes of %d", d.LocalStatus, d.RemoteStatus, d.BytesTransferred, p.x.Moved)
	}
}

// digest: the end that asks gets it, and no end gets a wrong one.
func (p *played) digest(note noter, d *sideeffect.Descriptor) {
	want := sumOf(p.c.Hash, p.payload)
	if d.Hash != sideeffect.None && !d.Digest.Equal(want) || !d.Digest.IsZero() && !d.Digest.Equal(want) {
		note("%s: digest %v, want %v", p.end(d), d.Digest, want)
	}
	verified := sideeffect.VerifiedBlocks
	if d.Hash != sideeffect.None && p.c.HashAt == AtBoth && p.x.Moved == int64(len(p.payload)) && !p.x.Exceeded {
		verified += "+" + d.Hash.String()
	}
	if p.x.Unheard && d == p.server {
		return
	}
	if len(d.Verified) < len(verified) || d.Verified[:len(verified)] != verified {
		note("%s: verified %q, want %q", p.end(d), d.Verified, verified)
	}
}

func sumOf(a sideeffect.Algorithm, b []byte) sideeffect.Sum {
	switch a {
	case sideeffect.SHA256:
		s := sha256.Sum256(b)
		return sideeffect.Sum{Algorithm: a, Bytes: s[:]}
	case sideeffect.SHA512:
		s := sha512.Sum512(b)
		return sideeffect.Sum{Algorithm: a, Bytes: s[:]}
	case sideeffect.BLAKE3:
		s := blake3.Sum256(b)
		return sideeffect.Sum{Algorithm: a, Bytes: s[:]}
	}
	return sideeffect.Sum{}
}

func (p *played) failure(note noter) {
	p.blamed(note, "call", p.call)
	if _, ok := status.FromError(p.call); !ok {
		note("call: %v is no status", p.call)
	}
	p.blamed(note, "client", p.client.Err)
	if p.x.Early == p.ran {
		note("early is %v, and the handler ran: %v", p.x.Early, p.ran)
	}
	if p.ran && !p.x.Unheard {
		p.blamed(note, "handler", p.handler)
		p.blamed(note, "server", p.server.Err)
	}
	if p.sink().LocalStatus == sideeffect.Success {
		note("the sink calls it a success")
	}
	if d := p.source(); d.RemoteStatus == sideeffect.Success {
		note("the source believes in a success: %+v", d.Result)
	}
	if len(p.x.Reasons) == 1 {
		p.single(note, p.x.Reasons[0])
	}
	p.left(note)
}

// blamed: the error is typed, and for one of the reasons.
func (p *played) blamed(note noter, who string, err error) {
	var f *fault.Error
	if !errors.As(err, &f) || f.Op == "" {
		note("%s: %v (%T) is no fault", who, err, err)
		return
	}
	for _, r := range p.x.Reasons {
		if f.Kind == r.Kind {
			return
		}
	}
	note("%s: %v, want one of %v", who, err, p.x.Reasons)
}

// single: with one reason it is known who finds out, and what the other says.
func (p *played) single(note noter, r Reason) {
	var f *fault.Error
	atClient := (r.End == SourceEnd) == p.c.clientSends()
	if errors.As(p.client.Err, &f) && (f.Side == fault.Here) != atClient {
		note("client: %v has side %v", p.client.Err, f.Side)
	}
	if r.Kind == fault.QuotaExceeded && !p.client.QuotaExceeded {
		note("client: quota exceeded is false")
	}
	if p.x.Early && (p.client.LocalStatus == sideeffect.Success || p.client.RemoteStatus != sideeffect.NotStarted && p.client.RemoteStatus != sideeffect.Failure) {
		note("client: %v here, %v there, before the call", p.client.LocalStatus, p.client.RemoteStatus)
	}
}

func (p *played) left(note noter) {
	if p.x.Left == Untouched {
		if !same(p.after, p.before) {
			note("the sink held %s, and now %s", p.before.brief(), p.after.brief())
		}
		return
	}
	if !p.before.Exists && p.after.Exists {
		note("the sink was created: %s", p.after.brief())
	}
	if i := strangeByte(p.after.Content, p.before.Content, p.payload); i >= 0 {
		note("byte %d of the sink is neither old nor new", i)
	}
}

// strangeByte is the position of the first byte that is neither filler, nor a
// gap, nor of the content; -1: none. It is a coarse check, because what is torn is not
// promised.
func strangeByte(after, before, payload []byte) int {
	var known [256]bool
	known[0], known[0xEE] = true, true
	for _, b := range payload {
		known[b] = true
	}
	for i, b := range after {
		if !known[b] {
			return i
		}
	}
	if len(after) > len(before)+len(payload)+16 {
		return len(after) - 1
	}
	return -1
}

func same(a, b State) bool { return a.Exists == b.Exists && bytes.Equal(a.Content, b.Content) }

func (s State) brief() string {
	if !s.Exists {
		return "nothing"
	}
	return fmt.Sprintf("%d bytes %.8x", len(s.Content), s.Content)
}

func (p *played) end(d *sideeffect.Descriptor) string {
	who := map[bool]string{true: "client", false: "server"}[d == p.client]
	return who + map[bool]string{true: ", source", false: ", sink"}[d == p.source()]
}
