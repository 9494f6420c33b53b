package admin

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

func (s *Server) ListPartners(context.Context, *adminpb.ListPartnersRequest) (*adminpb.ListPartnersReply, error) {
	all := s.cfg.Engine.Partners()
	reply := &adminpb.ListPartnersReply{Partners: make([]*adminpb.Partner, len(all))}
	for i := range all {
		reply.Partners[i] = partnerOf(&all[i])
	}
	return reply, nil
}

// asLogin has an operator who tries a bridge told apart that its server does not accept who logs in. To
// a request that is one of the reasons why its other end refused it.
func asLogin(err error) error {
	e, ok := err.(*fault.Error)
	if !ok || e.Kind != fault.Refused || !errors.Is(e.Err, fault.Unauthenticated) {
		return err
	}
	own := *e
	own.Kind = fault.Unauthenticated
	return &own
}

func (s *Server) TestPartner(ctx context.Context, in *adminpb.TestPartnerRequest) (*adminpb.Partner, error) {
	book := s.cfg.Engine.Book()
	if _, err := book.Partner(in.GetPartner()); err != nil {
		return nil, err
	}
	p, err := s.cfg.Engine.Reach(ctx, in.GetPartner())
	if err != nil {
		return nil, advising{asLogin(err)}
	}
	reply := partnerOf(&p)
	if p.Bridge && s.cfg.Probe != nil {
		found, err := s.cfg.Probe(ctx, in.GetPartner(), in.GetWrite())
		if err != nil {
			return nil, advising{err}
		}
		for _, line := range found {
			reply.Found = append(reply.Found, valid(line))
		}
	}
	return reply, nil
}

func (s *Server) ListRules(_ context.Context, in *adminpb.ListRulesRequest) (*adminpb.ListRulesReply, error) {
	rules := s.cfg.Engine.Book().Rules
	reply := &adminpb.ListRulesReply{}
	var why map[string]error
	if in.GetRoots() {
		var roots []string
		for _, r := range rules {
			roots = append(roots, r.Root)
		}
		why = engine.Unwritable(roots...)
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		r := ruleOf(rules[name])
		if err := why[rules[name].Root]; err != nil {
			r.Unwritable = valid(err.Error())
		}
		reply.Rules = append(reply.Rules, r)
	}
	return reply, nil
}

func (s *Server) Browse(in *adminpb.BrowseRequest, out grpc.ServerStreamingServer[adminpb.BrowseEntry]) error {
	if s.cfg.Browse == nil {
		return unsupported("browse", "this node cannot list a partner's files")
	}
	if in.GetPath() != "" {
		if _, err := relpath.Parse(in.GetPath()); err != nil {
			return fault.Wrap("read directory's name", in.GetPath(), err)
		}
	}
	for e, err := range s.cfg.Browse(out.Context(), in.GetPartner(), in.GetRule(), in.GetPath()) {
		if err != nil {
			return err
		}
		if err := out.Send(&adminpb.BrowseEntry{Name: valid(e.Name), Size: e.Size, Directory: e.Directory, Modified: timeOf(e.Modified)}); err != nil {
			return err
		}
	}
	return nil
}

// chunk is the most bytes of a BackupChunk.
const chunk = 64 << 10

// Backup sends as fast as the caller takes it. One that does not read holds up nobody: what is sent
// is a copy (package notefile).
func (s *Server) Backup(in *adminpb.BackupRequest, out grpc.ServerStreamingServer[adminpb.BackupChunk]) error {
	if s.cfg.Backup == nil {
		return unsupported("backup", "this node's store has none")
	}
	return s.cfg.Backup(backupWriter{out}, in.GetWithKey())
}

// backupWriter sends what is written.
type backupWriter struct {
	out grpc.ServerStreamingServer[adminpb.BackupChunk]
}

var _ io.Writer = backupWriter{}

func (w backupWriter) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, chunk) {
		if err := w.out.Send(&adminpb.BackupChunk{Data: part}); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// Reloaded is what a node has of a configuration that it has taken over.
type Reloaded struct {
	Notes    []string // what is different
	Problems []string // what does not work all the same
}

func (s *Server) Reload(ctx context.Context, _ *adminpb.ReloadRequest) (*adminpb.ReloadReply, error) {
	if s.cfg.Reload == nil {
		return nil, unsupported("reload", "this node has no configuration file")
	}
	is, err := s.cfg.Reload(ctx)
	if err != nil {
		return nil, err
	}
	s.cfg.Log.Info("configuration reloaded", "notes", is.Notes)
	return &adminpb.ReloadReply{Notes: is.Notes, Problems: is.Problems}, nil
}

func (s *Server) NodeInfo(context.Context, *adminpb.NodeInfoRequest) (*adminpb.Node, error) {
	n := &adminpb.Node{Name: s.cfg.Node, Key: s.cfg.Key, Version: s.cfg.Version, Started: timestamppb.New(s.started)}
	if s.cfg.Addresses != nil {
		n.Addresses = s.cfg.Addresses()
	}
	n.Draining = s.cfg.Draining != nil && s.cfg.Draining()
	return n, nil
}

func unsupported(op, why string) error { return fault.New(op, fault.Unsupported, "%s", why) }

// Door is where clients of another protocol connect, a listener of the configuration.
type Door struct {
	Address string
	Plugin  string
	PID     int // of its process; 0: none runs
	Serving bool
	Problem error // why not; nil: nothing has failed
	Users   []string
}

// ListListeners implements adminpb.AdminServer.
func (s *Server) ListListeners(context.Context, *adminpb.ListListenersRequest) (*adminpb.ListListenersReply, error) {
	reply := &adminpb.ListListenersReply{}
	if s.cfg.Listeners == nil {
		return reply, nil
	}
	for _, l := range s.cfg.Listeners() {
		m := &adminpb.Listener{Address: valid(l.Address), Plugin: valid(l.Plugin), Pid: int32(l.PID), Serving: l.Serving, Users: l.Users}
		if l.Problem != nil {
			m.Problem = clipped(l.Problem.Error())
		}
		reply.Listeners = append(reply.Listeners, m)
	}
	return reply, nil
}
