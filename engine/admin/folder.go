package admin

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Folders are the watch folders of a node. Errors are NotFound without one of that name.
type Folders interface {
	List() []folder.Status // by name, without rows
	Show(name string) (folder.Status, error)
	Find(name string) (*folder.Watcher, error)
}

func (s *Server) folders() (Folders, error) {
	if s.cfg.Folders == nil {
		return nil, fault.New("find folders", fault.Unsupported, "this node watches no folders")
	}
	return s.cfg.Folders, nil
}

// ListFolders implements adminpb.AdminServer.
func (s *Server) ListFolders(context.Context, *adminpb.ListFoldersRequest) (*adminpb.ListFoldersReply, error) {
	all, err := s.folders()
	if err != nil {
		return nil, err
	}
	reply := &adminpb.ListFoldersReply{}
	for _, st := range all.List() {
		reply.Folders = append(reply.Folders, folderOf(&st))
	}
	return reply, nil
}

// ShowFolder implements adminpb.AdminServer.
func (s *Server) ShowFolder(ctx context.Context, in *adminpb.ShowFolderRequest) (*adminpb.Folder, error) {
	return s.showFolder(ctx, in.GetName())
}

func (s *Server) showFolder(ctx context.Context, name string) (*adminpb.Folder, error) {
	all, err := s.folders()
	if err != nil {
		return nil, err
	}
	st, err := all.Show(name)
	if err != nil {
		return nil, err
	}
	return shownFiles(ctx, folderOf(&st)), nil
}

// ScanFolder implements adminpb.AdminServer.
func (s *Server) ScanFolder(ctx context.Context, in *adminpb.ScanFolderRequest) (*adminpb.Folder, error) {
	w, err := s.folder(in.GetName())
	if err != nil {
		return nil, err
	}
	if err := w.Scan(ctx); err != nil {
		return nil, err
	}
	return s.showFolder(ctx, in.GetName())
}

func (s *Server) folder(name string) (*folder.Watcher, error) {
	all, err := s.folders()
	if err != nil {
		return nil, err
	}
	return all.Find(name)
}

// TestFolder implements adminpb.AdminServer.
func (s *Server) TestFolder(ctx context.Context, in *adminpb.TestFolderRequest) (*adminpb.TestFolderReply, error) {
	w, err := s.folder(in.GetName())
	if err != nil {
		return nil, err
	}
	rows, counts, err := w.Test(ctx, folder.MostRows)
	if ctx.Err() != nil {
		return nil, fault.Wrap("test folder", in.GetName(), context.Cause(ctx))
	}
	reply := &adminpb.TestFolderReply{Files: folderFiles(rows), Counts: map[string]int64{}}
	for state, n := range counts {
		reply.Counts[state] = int64(n)
	}
	if err != nil {
		reply.Trouble = clipped(fault.Plain(err))
	}
	return reply, nil
}

func folderOf(s *folder.Status) *adminpb.Folder {
	f := &s.Folder
	q := &adminpb.Folder{
		Name: f.Name, Rule: f.Rule, Partners: f.Partners, Root: f.Root, Dir: f.Dir.String(), Recursive: f.Recursive, After: f.After.String(),
		Trouble: clipped(s.Trouble), Hints: clipped(s.Hints), Partly: s.Partly, Waiting: int64(s.Waiting), Held: int64(s.Held), Open: int64(s.Open), Kept: int64(s.Kept), Failed: int64(s.Failed), Skipped: int64(s.Skipped),
		Scanned: timeOf(s.Scanned), Dirs: int64(s.Dirs), Submitted: s.Submitted, Delivered: s.Delivered, Files: folderFiles(s.Rows),
		Staying: int64(s.Staying), Stays: clipped(s.Stays),
	}
	if !s.Scanned.IsZero() {
		q.Took = durationpb.New(s.Took)
	}
	return q
}

func folderFiles(rows []folder.Row) (all []*adminpb.FolderFile) {
	for i := range rows {
		r := &rows[i]
		all = append(all, &adminpb.FolderFile{Path: valid(r.Path), State: r.State, Why: clipped(r.Why), Ids: r.IDs, Size: r.Size})
	}
	return all
}
