package web_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/engine/web"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// watching is a node with watched folders, whose first one has so many files.
type watching struct {
	adminpb.AdminClient
	name   string // of files, and of what is wrong
	files  int
	looked atomic.Int32 // how often a folder was asked for
}

func (c *watching) ListFolders(context.Context, *adminpb.ListFoldersRequest, ...grpc.CallOption) (*adminpb.ListFoldersReply, error) {
	return &adminpb.ListFoldersReply{Folders: []*adminpb.Folder{
		{Name: "outbox", Rule: "out", Partners: []string{"there", "far"}, Root: "/srv/files", Dir: "outbox", After: "move", Waiting: 1, Held: 1200, Open: 2, Kept: 40, Failed: 1, Skipped: 1,
			Scanned: timestamppb.New(time.Now().Add(-210 * time.Second)), Took: durationpb.New(12 * time.Millisecond), Dirs: 14, Submitted: 2044, Delivered: 1020},
		{Name: "broken", Rule: "out", Partners: []string{"there"}, Root: "/srv/broken", After: "keep", Trouble: "open " + c.name + ": permission denied", Hints: "the kernel has no watches left", Partly: true},
		{Name: "fresh", Rule: "out", Partners: []string{"there"}, Root: "/srv/fresh", After: "delete"},
	}}, nil
}

func (c *watching) ShowFolder(ctx context.Context, in *adminpb.ShowFolderRequest, _ ...grpc.CallOption) (*adminpb.Folder, error) {
	c.looked.Add(1)
	reply, _ := c.ListFolders(ctx, nil)
	if in.GetName() != "outbox" {
		return nil, fault.New("find folder", fault.NotFound, "no folder %q", in.GetName())
	}
	f := reply.GetFolders()[0]
	f.Files = []*adminpb.FolderFile{
		{Path: "outbox/" + c.name, State: "failed", Why: "refused: " + c.name, Ids: []string{"00000100000000000000000000000001"}, Size: 3 << 20},
		{Path: "outbox/link", State: "skipped", Why: "a symbolic link", Size: -1},
		{Path: "outbox/new.csv", State: "waiting", Why: "it has stayed the same for 1 s of 5 s", Size: 100},
		{Path: "outbox/next.csv", State: "held", Why: "1,000 requests are open", Size: 100},
		{Path: "outbox/movie.mov", State: "open", Ids: []string{"00000200000000000000000000000001", "00000300000000000000000000000001"}, Size: 40 << 30},
	}
	for i := range c.files {
		f.Files = append(f.Files, &adminpb.FolderFile{Path: fmt.Sprintf("outbox/old-%04d", i), State: "kept", Size: int64(i)})
	}
	return f, nil
}

func (c *watching) ScanFolder(ctx context.Context, in *adminpb.ScanFolderRequest, _ ...grpc.CallOption) (*adminpb.Folder, error) {
	if in.GetName() == "broken" {
		return nil, fault.New("scan", fault.IO, "reading %s", c.name)
	}
	return c.ShowFolder(ctx, &adminpb.ShowFolderRequest{Name: in.GetName()})
}

func watched(files int) (*watching, func(adminpb.AdminClient) adminpb.AdminClient) {
	w := &watching{name: hostile, files: files}
	return w, func(c adminpb.AdminClient) adminpb.AdminClient { w.AdminClient = c; return w }
}

// TestFolders: the pages say how each folder is doing, and of one what waits and why, with names as text; a node
// that watches none says how one gets it.
func TestFolders(t *testing.T) {
	w, wrap := watched(500)
	s := newSite(t, wrap)
	for path, wants := range map[string][]string{
		"/folders": {"Failures", "1 failed", "1,200 held", "looked through 3 min ago, 14 directories in 12ms", "by out to there, far, then move", `href="/folders/outbox"`, "Trouble", "permission denied",
			"changes of some directories are only found by looking through everything: the kernel has no watches left", "Beginning", "not looked through yet", `action="/folders/outbox/scan"`},
		"/folders/outbox": {"it has stayed the same for 1 s of 5 s", `<a id="t00000300000000000000000000000001" href="/transfers/00000300000000000000000000000001">00000300</a>`, "a symbolic link", "old-0194", "the first 200", "40 GiB"},
	} {
		text := s.get(path)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %q:\n%s", path, want, text)
			}
		}
		if strings.Contains(text, "<img") || !strings.Contains(text, "&lt;img") || strings.Contains(text, "old-0195") {
			t.Errorf("%s: %s", path, text)
		}
	}
	for path, want := range map[string]string{"/live/folders": "Failures", "/live/folders/outbox": "00000300"} {
		if text := s.first(path); !strings.Contains(text, want) || strings.Contains(text, "<img") {
			t.Errorf("%s: %s", path, text)
		}
	}
	if a, _ := s.do(http.MethodGet, "/folders/none", ""); a.StatusCode != http.StatusNotFound {
		t.Errorf("one that is not there: %s", a.Status)
	}
	if _, text := s.do(http.MethodPost, "/folders/outbox/scan", "", "HX-Request", "true"); !strings.Contains(text, "outbox: looked through") {
		t.Error(text)
	}
	if _, text := s.do(http.MethodPost, "/folders/broken/scan", "", "HX-Request", "true"); !strings.Contains(text, "notice bad") || strings.Contains(text, "<img") {
		t.Error(text)
	}
	if a, _ := s.do(http.MethodPost, "/folders/outbox/scan", "", "Sec-Fetch-Site", "cross-site"); a.StatusCode != http.StatusForbidden {
		t.Errorf("from another site: %s", a.Status)
	}
	before := w.looked.Load()
	for range 20 {
		s.get("/folders/outbox")
	}
	if n := w.looked.Load() - before; n > 10 {
		t.Errorf("20 who look at once have the node look %d times", n)
	}
	s.as(&web.Caller{Name: "x", Read: true})
	if text := s.get("/folders"); strings.Contains(text, "/scan\"") {
		t.Error("who may only read is shown a word")
	}
	for _, path := range []string{"/folders/outbox/scan"} {
		if a, _ := s.do(http.MethodPost, path, ""); a.StatusCode != http.StatusForbidden {
			t.Errorf("who may only read: %s", a.Status)
		}
	}
	s.as(nil)
	for _, path := range []string{"/folders", "/folders/outbox", "/live/folders", "/live/folders/outbox"} {
		if a, _ := s.do(http.MethodGet, path, ""); a.StatusCode != http.StatusUnauthorized {
			t.Errorf("nobody: %s: %s", path, a.Status)
		}
	}
	if text := newSite(t).get("/folders"); !strings.Contains(text, "[[folder]]") {
		t.Error(text)
	}
}
