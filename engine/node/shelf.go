package node

import (
	"context"
	"slices"
	"strings"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/peer"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/relpath"
)

// shelf is what partners may look at: peer.Files, also of rules whose files are at a
// bridge. Digests of those nobody computes.
type shelf struct {
	*peer.Shelf
	node *Node
}

func (n *Node) newShelf() *shelf {
	return &shelf{peer.NewShelf(func() engine.Book { return n.present.Load().book }), n}
}

// at is where a partner finds the files of such a rule; ok is false for other rules.
func (s *shelf) at(partner, rule string) (bridge, dir string, ok bool) {
	r := s.node.present.Load().book.Rules[rule]
	if r == nil || r.Bridge == "" || r.Direction != engine.Receive || !r.Allows(partner) {
		return "", "", false
	}
	bridge, dir, _ = strings.Cut(r.Bridge, ":")
	return bridge, strings.TrimSuffix(dir, "/"), true
}

// List implements peer.Files. The server's whole listing is read for each page.
func (s *shelf) List(ctx context.Context, partner, rule string, dir relpath.Path, after string) (p peer.Page, err error) {
	bridge, root, ok := s.at(partner, rule)
	if !ok {
		return s.Shelf.List(ctx, partner, rule, dir, after)
	}
	at := root
	if !dir.IsZero() {
		at += "/" + dir.String()
	}
	lowest := func(all []peer.Entry) []peer.Entry {
		slices.SortFunc(all, func(a, b peer.Entry) int { return strings.Compare(a.Name, b.Name) })
		return all[:min(len(all), peer.MaxPage+1)]
	}
	for e, err := range s.node.bridges.list(ctx, bridge, strings.TrimPrefix(at, "/")) {
		if err != nil {
			return peer.Page{}, err
		}
		if _, err := dir.Join(e.Name); err != nil {
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
	bridge, root, ok := s.at(partner, rule)
	if !ok {
		return s.Shelf.Stat(ctx, partner, rule, path)
	}
	session, over, err := s.node.bridges.Login(ctx, bridge)
	if err != nil {
		return e, err
	}
	var a plugins.Attr
	a, err = session.Stat(ctx, root+"/"+path.String())
	over(err)
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
