package node

import (
	"context"
	"io"
	"iter"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/peer"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// listenAdmin makes the service of the operators and opens its socket, unless there is none.
func (n *Node) listenAdmin() error {
	cfg := admin.Config{
		Engine: n.engine, Node: n.fixed.Name, Key: n.key, Version: n.o.Version, Addresses: n.Addresses, Draining: n.draining.Load, Log: n.log, Audit: n.auditor(), Refused: n.refused,
	}
	cfg.Lines = n.logs.Of
	if s, ok := n.o.Store.(interface{ Backup(io.Writer) error }); ok {
		cfg.Backup = func(w io.Writer, withKey bool) error { return n.backup(s.Backup, w, withKey) }
	}
	if s, ok := n.o.Store.(interface{ Verify(func(int) error) error }); ok {
		cfg.Verify = s.Verify
	}
	if n.o.Read != nil {
		cfg.Reload = func(context.Context) (admin.Reloaded, error) { return n.ReadAgain() }
	}
	cfg.Relays, cfg.Folders, cfg.Tokens, cfg.Objects = n.relays, n.folders, n.tokens, runtimeObjects{n}
	cfg.Schedules, cfg.Expecting = n.schedules, n.expecting
	cfg.Browse, cfg.Probe, cfg.Listeners = n.browse, n.bridges.Probe, n.listeners.list
	cfg.Kept = n.listeners.remains.Has
	var err error
	if n.admin, err = admin.New(cfg); err != nil {
		return err
	}
	if n.fixed.Admin == "" {
		n.undone(func() error { n.admin.Close(); return nil })
		return nil
	}
	if n.socket, err = admin.Listen(n.fixed.Admin, admin.Access{}); err != nil {
		return err
	}
	n.undone(func() error {
		n.admin.Close()
		_ = n.socket.Close() // closed already if it was served
		return nil
	})
	return nil
}

// browse yields the files and directories below a directory of a partner.
func (n *Node) browse(ctx context.Context, partner, rule, dir string) iter.Seq2[admin.Entry, error] {
	if n.bridges.Has(partner) {
		return n.bridges.list(ctx, partner, dir)
	}
	return func(yield func(admin.Entry, error) bool) {
		if n.line == nil {
			yield(admin.Entry{}, fault.New("browse", fault.Unsupported, "this node cannot list a partner's files"))
			return
		}
		var at relpath.Path
		var err error
		if dir != "" {
			if at, err = relpath.Parse(dir); err != nil {
				yield(admin.Entry{}, fault.Wrap("browse", dir, err))
				return
			}
		}
		for after := ""; ; {
			page, err := n.line.List(ctx, partner, rule, at, after)
			if err != nil {
				yield(admin.Entry{}, err)
				return
			}
			for _, e := range page.Entries {
				if e.Kind != peer.OtherEntry && !yield(admin.Entry{Name: e.Name, Size: e.Size, Directory: e.Kind == peer.DirectoryEntry, Modified: e.Modified}, nil) {
					return
				}
			}
			if after = page.Next; after == "" {
				return
			}
		}
	}
}
