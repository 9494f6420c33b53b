package peer

import (
	"context"
	"time"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
	"github.com/pannier/pannier/spec/relpath"
)

// Limits of what a node says of itself.
const (
	maxFeatures = 32
	maxFeature  = 64
	maxVersion  = 64
)

// NodeInfo is what a node says of itself.
type NodeInfo struct {
	Name     string
	Version  string
	Time     time.Time // its clock
	Features []string
}

// Info serves what a partner wants to know.
func (v *service) Info(ctx context.Context, m *peerpb.InfoAsk) (*peerpb.InfoReply, error) {
	partner, err := callerIn(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := v.info(ctx, partner, m)
	if err != nil {
		return nil, cleaned(ctx, err)
	}
	return reply, nil
}

func (v *service) info(ctx context.Context, partner string, m *peerpb.InfoAsk) (*peerpb.InfoReply, error) {
	if m.GetWhat() == peerpb.What_WHAT_NODE {
		return &peerpb.InfoReply{Node: v.s.self()}, nil
	}
	if err := checkName("rule's name", m.GetRule()); err != nil {
		return nil, err
	}
	leave, ok := v.s.o.Node.Enter(partner)
	if !ok {
		return nil, errFull()
	}
	defer leave()
	var path relpath.Path
	if m.GetPath() != "" || m.GetWhat() != peerpb.What_WHAT_LIST {
		var err error
		if path, err = readPath("path", m.GetPath()); err != nil {
			return nil, err
		}
	}
	switch m.GetWhat() {
	case peerpb.What_WHAT_LIST:
		if err := checkText("name to go on after", m.GetAfter(), 0, relpath.MaxElement); err != nil {
			return nil, err
		}
		p, err := v.s.o.Files.List(ctx, partner, m.GetRule(), path, m.GetAfter())
		if err != nil {
			return nil, err
		}
		out := &peerpb.Page{Next: p.Next, Omitted: p.Omitted}
		for i := range p.Entries {
			out.Entries = append(out.Entries, writeEntry(&p.Entries[i]))
		}
		return &peerpb.InfoReply{Page: out}, nil
	case peerpb.What_WHAT_STAT:
		e, err := v.s.o.Files.Stat(ctx, partner, m.GetRule(), path)
		if err != nil {
			return nil, err
		}
		return &peerpb.InfoReply{Entry: writeEntry(&e)}, nil
	case peerpb.What_WHAT_DIGEST:
		if m.GetAlgorithm() > 255 || sideeffect.Algorithm(m.GetAlgorithm()).Size() == 0 {
			return nil, fault.New(opRead, fault.Invalid, "algorithm %d is not known here", m.GetAlgorithm())
		}
		e, sum, err := v.s.o.Files.Digest(ctx, partner, m.GetRule(), path, sideeffect.Algorithm(m.GetAlgorithm()))
		if err != nil {
			return nil, err
		}
		return &peerpb.InfoReply{Entry: writeEntry(&e), Digest: sum.Bytes}, nil
	}
	return nil, fault.New(opRead, fault.Invalid, "what is %d; this version knows 0 to 3", int32(m.GetWhat()))
}

// Node asks a partner who it is.
func (l *Line) Node(ctx context.Context, partner string) (NodeInfo, error) {
	reply, err := l.info(ctx, partner, &peerpb.InfoAsk{})
	if err != nil {
		return NodeInfo{}, err
	}
	return readNode(reply.GetNode())
}

// List asks a partner for a page of a directory; see Files.
func (l *Line) List(ctx context.Context, partner, rule string, dir relpath.Path, after string) (Page, error) {
	reply, err := l.info(ctx, partner, &peerpb.InfoAsk{What: peerpb.What_WHAT_LIST, Rule: rule, Path: dir.String(), After: after})
	if err != nil {
		return Page{}, err
	}
	return readPage(reply.GetPage(), after)
}

// Stat asks a partner for a file or directory; see Files.
func (l *Line) Stat(ctx context.Context, partner, rule string, path relpath.Path) (Entry, error) {
	reply, err := l.info(ctx, partner, &peerpb.InfoAsk{What: peerpb.What_WHAT_STAT, Rule: rule, Path: path.String()})
	if err != nil {
		return Entry{}, err
	}
	return readEntry(reply.GetEntry())
}

// Digest asks a partner to read a file; see Files.
func (l *Line) Digest(ctx context.Context, partner, rule string, path relpath.Path, a sideeffect.Algorithm) (Entry, sideeffect.Sum, error) {
	reply, err := l.info(ctx, partner, &peerpb.InfoAsk{What: peerpb.What_WHAT_DIGEST, Rule: rule, Path: path.String(), Algorithm: uint32(a)})
	if err != nil {
		return Entry{}, sideeffect.Sum{}, err
	}
	e, err := readEntry(reply.GetEntry())
	if err == nil && len(reply.GetDigest()) != a.Size() {
		err = badAnswer("a digest of %d bytes; %v has %d", len(reply.GetDigest()), fault.Shown(a.String()), a.Size())
	}
	if err != nil {
		return Entry{}, sideeffect.Sum{}, err
	}
	return e, sideeffect.Sum{Algorithm: a, Bytes: reply.GetDigest()}, nil
}

func (l *Line) info(ctx context.Context, partner string, ask *peerpb.InfoAsk) (*peerpb.InfoReply, error) {
	reply := new(peerpb.InfoReply)
	return reply, l.invoke(ctx, partner, peerpb.Peer_Info_FullMethodName, ask, reply)
}

// readNode is what a partner has said of itself.
func readNode(p *peerpb.Node) (NodeInfo, error) {
	if err := checkName("node's name", p.GetName()); err != nil {
		return NodeInfo{}, badAnswer("%v", err)
	}
	if err := checkText("version", p.GetVersion(), 0, maxVersion); err != nil {
		return NodeInfo{}, badAnswer("%v", err)
	}
	if n := len(p.GetFeatures()); n > maxFeatures {
		return NodeInfo{}, badAnswer("%d features; at most %d", n, maxFeatures)
	}
	for _, f := range p.GetFeatures() {
		if err := checkText("name of a feature", f, 1, maxFeature); err != nil {
			return NodeInfo{}, badAnswer("%v", err)
		}
	}
	return NodeInfo{Name: p.GetName(), Version: p.GetVersion(), Time: instant(p.GetTime()), Features: p.GetFeatures()}, nil
}

// readPage refuses a page that does not lead on, so that who asks for all of them
// comes to an end.
func readPage(p *peerpb.Page, after string) (Page, error) {
	if n := len(p.GetEntries()); n > MaxPage {
		return Page{}, badAnswer("a page of %d names; at most %d", n, MaxPage)
	}
	out := Page{Next: p.GetNext(), Omitted: p.GetOmitted()}
	if out.Next != "" && (out.Next <= after || len(out.Next) > relpath.MaxElement) {
		return Page{}, badAnswer("the page after it does not come after it")
	}
	for _, e := range p.GetEntries() {
		entry, err := readEntry(e)
		if err != nil {
			return Page{}, err
		}
		if entry.Name <= after {
			return Page{}, badAnswer("names that are not sorted")
		}
		after = entry.Name
		out.Entries = append(out.Entries, entry)
	}
	return out, nil
}

func readEntry(p *peerpb.Entry) (Entry, error) {
	path, err := relpath.Parse(p.GetName())
	if err != nil || path.Base() != p.GetName() {
		return Entry{}, badAnswer("a name that is no element of a path")
	}
	k := p.GetKind()
	if k < peerpb.EntryKind_ENTRY_KIND_FILE || k > peerpb.EntryKind_ENTRY_KIND_OTHER || p.GetSize() < 0 {
		return Entry{}, badAnswer("a name of kind %d and %d bytes", int32(k), p.GetSize())
	}
	return Entry{Name: p.GetName(), Kind: EntryKind(k), Size: p.GetSize(), Modified: instant(p.GetModified())}, nil
}

func writeEntry(e *Entry) *peerpb.Entry {
	return &peerpb.Entry{Name: e.Name, Kind: peerpb.EntryKind(e.Kind), Size: e.Size, Modified: nanoseconds(e.Modified)}
}
