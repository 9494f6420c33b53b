package web

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// The pages of watched folders: how each is doing, and of one its files and why they wait.

// mostFiles is how many files of a folder are on its page.
const mostFiles = 200

// folders are those of the node, read for all who look: each time takes longer the more
// files there are.
type folders struct {
	all shared[[]*adminpb.Folder]

	mu  sync.Mutex
	one map[string]*shared[*adminpb.Folder] // by name; with files
}

// folder is one, as a page shows it.
type folder struct {
	Key, Name, Path string // of its page
	Dir, What       string
	Status, Word    string // up, down or idle; in words
	Counts          []tally
	Looked          string // when it was looked through
	Hints, Problem  string
	Files           []folderFile
	More            string // which are not shown
	Caller          Caller
}

// tally is how many files are in a state.
type tally struct {
	N    int
	What string
	Bad  bool
}

// folderFile is a file of one.
type folderFile struct {
	Group                  group // how its state looks
	State, Name, Size, Why string
	IDs                    []string
}

// folderList is the page of all.
type folderList struct{ Folders []folder }

// looks are how the states of files look.
var looks = map[string]group{"waiting": waiting, "held": waiting, "open": running, "failed": failed, "skipped": cancelled}

func folderOf(f *adminpb.Folder, caller Caller, now time.Time) folder {
	sum := sha256.Sum256([]byte(f.GetName()))
	x := folder{
		Key: "f" + hex.EncodeToString(sum[:6]), Name: f.GetName(), Path: "/folders/" + url.PathEscape(f.GetName()), Dir: fileName(path.Join(f.GetRoot(), f.GetDir())),
		What:    "by " + f.GetRule() + " to " + strings.Join(f.GetPartners(), ", ") + ", then " + f.GetAfter(),
		Problem: f.GetTrouble(), Looked: "not looked through yet", Caller: caller,
	}
	for _, c := range []struct {
		n    int64
		what string
		bad  bool
	}{{f.GetFailed(), "failed", true}, {f.GetStaying(), "not taken away", true}, {f.GetWaiting(), "waiting", false}, {f.GetHeld(), "held", false}, {f.GetOpen(), "under way", false}, {f.GetKept(), "kept", false}, {f.GetSkipped(), "skipped", false}} {
		if c.n > 0 {
			x.Counts = append(x.Counts, tally{int(c.n), c.what, c.bad})
		}
	}
	if f.GetScanned() != nil {
		x.Looked = fmt.Sprintf("looked through %s, %s in %s; since it began %s submitted, %s delivered", ago(f.GetScanned().AsTime(), now), count(int(f.GetDirs()), "directory", "directories"),
			lasted(f.GetTook().AsDuration()), count(int(f.GetSubmitted()), "request", "requests"), count(int(f.GetDelivered()), "file", "files"))
	}
	x.Hints = admin.Unheard(f)
	switch {
	case f.GetTrouble() != "":
		x.Status, x.Word = "down", "Trouble"
	case f.GetStaying() > 0:
		x.Status, x.Word = "down", "Files stay"
		x.Problem = "what is to be moved or removed stays, and that is tried again: " + f.GetStays()
	case f.GetFailed() > 0:
		x.Status, x.Word = "down", "Failures"
	case f.GetScanned() == nil:
		x.Status, x.Word = "idle", "Beginning"
	default:
		x.Status, x.Word = "up", "Watching"
	}
	for _, file := range f.GetFiles()[:min(len(f.GetFiles()), mostFiles)] {
		y := folderFile{Group: looks[file.GetState()], State: capital(file.GetState()), Name: fileName(file.GetPath()), Size: size(file.GetSize()), Why: file.GetWhy(), IDs: file.GetIds()}
		switch {
		case y.State == "Delivered" && y.Why != "": // it stays
			y.Group = failed
		case y.Group == "":
			y.Group = done
		}
		x.Files = append(x.Files, y)
	}
	if n := len(f.GetFiles()) - mostFiles; n > 0 {
		x.More = "These are the first " + number(mostFiles) + ", those that need somebody before others. `pannier folder show " + f.GetName() + "` has more."
	}
	return x
}

func (p *Page) listFolders(v *visit) error {
	all, err := p.allFolders(v)
	if err != nil {
		return err
	}
	v.page(http.StatusOK, "folders", "Watched folders", "folders", folderList{all})
	return nil
}

func (p *Page) liveFolders(v *visit) error {
	return v.stream(func(s *stream) error {
		all, err := p.allFolders(v)
		for _, x := range all {
			if err == nil {
				err = s.tell(x.Key, "folder-state", x)
			}
		}
		return err
	})
}

// allFolders are without their files. A node that watches none has none.
func (p *Page) allFolders(v *visit) (all []folder, err error) {
	list, err := v.seen().folders.all.look(func() ([]*adminpb.Folder, error) {
		reply, err := p.cfg.Admin.ListFolders(v.ctx(), &adminpb.ListFoldersRequest{})
		if absent(err) {
			return nil, nil
		}
		return reply.GetFolders(), err
	})
	now := time.Now()
	for _, f := range list {
		all = append(all, folderOf(f, v.caller, now))
	}
	return all, err
}

func (p *Page) folder(v *visit) error {
	x, err := p.oneFolder(v)
	if err != nil {
		return err
	}
	v.page(http.StatusOK, "folder", x.Name, "folders", x)
	return nil
}

func (p *Page) liveFolder(v *visit) error {
	return v.stream(func(s *stream) error {
		x, err := p.oneFolder(v)
		if err == nil {
			err = s.tell(x.Key, "folder-state", x)
		}
		if err == nil {
			err = s.tell("files", "folder-files", x)
		}
		return err
	})
}

// oneFolder is the one of the address, with its files.
func (p *Page) oneFolder(v *visit) (folder, error) {
	name, d := v.r.PathValue("name"), &v.seen().folders
	d.mu.Lock()
	one := d.one[name]
	d.mu.Unlock()
	if one == nil {
		one = new(shared[*adminpb.Folder])
	}
	f, err := one.look(func() (*adminpb.Folder, error) {
		return p.cfg.Admin.ShowFolder(v.ctx(), &adminpb.ShowFolderRequest{Name: name})
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil { // none has that name any more
		delete(d.one, name)
		return folder{}, err
	}
	if d.one == nil {
		d.one = map[string]*shared[*adminpb.Folder]{}
	}
	if d.one[name] == nil {
		d.one[name] = one
	}
	return folderOf(f, v.caller, time.Now()), nil
}

// scanFolder looks through a folder now.
func (p *Page) scanFolder(v *visit) error {
	ctx, stop := wordContext(v)
	defer stop()
	name := v.r.PathValue("name")
	f, err := p.cfg.Admin.ScanFolder(ctx, &adminpb.ScanFolderRequest{Name: name})
	p.cfg.Log.Info("operator at the web page", "who", v.caller.Name, "word", "scan folder", "folder", name, "error", err)
	if err != nil {
		err = admin.FromStatus(err)
		if fault.KindOf(err) == fault.NotFound {
			return err
		}
		return v.answer(notice{Bad: true, Text: name + ": " + fault.Plain(err)})
	}
	x := folderOf(f, v.caller, time.Now())
	return v.answer(notice{Bad: x.Problem != "", Text: name + ": " + x.Looked + "."})
}
