package node

import (
	"context"
	"slices"
	"strings"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/bridge"
	"github.com/pannier/pannier/engine/peer"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// shelf is what partners may look at: peer.Files, also of rules whose files are at a
// bridge. Digests of those nobody computes.
type shelf struct {
	*peer.Shelf
	node  *Node
	lists chan struct{} // one for each listing of a server: others wait
}

func (n *Node) newShelf() *shelf {
	return &shelf{peer.NewShelf(func() engine.Book { return n.present.Load().book }), n, make(chan struct{}, peer.MaxLists)}
}

// at is where a partner finds the files of such a rule; ok is false for other rules.
func (s *shelf) at(partner, rule string) (name, dir string, ok bool) {
	r := s.node.present.Load().book.Rules[rule]
	if r == nil || r.Bridge == "" || r.Direction != engine.Receive || !r.Allows(partner) {
		return "", "", false
	}
	name, dir, _ = strings.Cut(r.Bridge, ":")
	return name, strings.TrimSuffix(dir, "/"), true
}

// List implements peer.Files. The server's whole listing is read for each page.
func (s *shelf) List(ctx context.Context, partner, rule string, dir relpath.Path, after string) (p peer.Page, err error) {
	name, root, ok := s.at(partner, rule)
	if !ok {
		return s.Shelf.List(ctx, partner, rule, dir, after)
	}
	if err := sideeffect.RefuseOwn("list directory", dir); err != nil {
		return p, err
	}
	select {
	case s.lists <- struct{}{}:
		defer func() { <-s.lists }()
	case <-ctx.Done():
		return p, fault.Wrap("list directory", dir.String(), ctx.Err())
	}
	at := root
	if !dir.IsZero() {
		at += "/" + dir.String()
	}
	lowest := func(all []peer.Entry) []peer.Entry {
		slices.SortFunc(all, func(a, b peer.Entry) int { return strings.Compare(a.Name, b.Name) })
		return all[:min(len(all), peer.MaxPage+1)]
	}
	for e, err := range s.node.bridges.list(ctx, name, strings.TrimPrefix(at, "/")) {
		if err != nil {
			return peer.Page{}, bridge.AsEnd(name, err)
		}
		if _, err := dir.Join(e.Name); err != nil || sideeffect.IsOwn(e.Name) {
			p.Omitted++
			continue
		}
		if e.Name > after {
			kind := peer.FileEntry
			if e.Directory {
				kind = peer.DirectoryEntry
			}
			p.Entries = append(p.Entries, peer.Entry{Name: e.Name, Kind: kind, Size: max(e.Size, 0), Modified: e.Modified})
		}
		if len(p.Entries) > 4*peer.MaxPage {
			p.Entries = lowest(p.Entries)
		}
	}
	if p.Entries = lowest(p.Entries); len(p.Entries) > peer.MaxPage {
		p.Entries = p.Entries[:peer.MaxPage]
		p.Next = p.Entries[peer.MaxPage-1].Name
	}
	return p, nil
}

// Stat implements peer.Files.
func (s *shelf) Stat(ctx context.Context, partner, rule string, path relpath.Path) (e peer.Entry, err error) {
	at, root, ok := s.at(partner, rule)
	if !ok {
		return s.Shelf.Stat(ctx, partner, rule, path)
	}
	if err := sideeffect.RefuseOwn("stat", path); err != nil {
		return e, err
	}
	a, err := s.node.bridges.stat(ctx, at, root+"/"+path.String())
	if err != nil {
		return e, err
	}
	e = peer.Entry{Name: path.Base(), Kind: peer.FileEntry, Size: max(a.Size, 0), Modified: a.Modified}
	if a.Dir {
		e.Kind = peer.DirectoryEntry
	}
	return e, nil
}

var _ peer.Files = (*shelf)(nil)
