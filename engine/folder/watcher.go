package folder

import (
	"container/heap"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
)

// Engine is where a folder has its requests; *engine.Engine is one.
type Engine interface {
	Submit(ctx context.Context, o engine.Order) (_ lifecycle.Record, made bool, err error)
	Get(ctx context.Context, ref store.Ref) (engine.Status, error)
	Wait(ctx context.Context, ref store.Ref) (lifecycle.Record, error)
	Cancel(ctx context.Context, ref store.Ref, why string) (lifecycle.Record, error)
}

var _ Engine = (*engine.Engine)(nil)

// Config is what a Watcher is made of.
type Config struct {
	Folder Folder
	Node   string // this node's name
	Engine Engine
	Notes  *Notes
	Log    *slog.Logger // nil: nowhere

	watcher func() (*fsnotify.Watcher, error) // nil: fsnotify.NewWatcher
	young   time.Duration                     // for so long nothing that is missed is forgotten; 0: forgetNothing
}

// Watcher is a folder at work. Its methods may be called at the same time.
type Watcher struct {
	cfg    Config
	f      *Folder
	log    *slog.Logger
	began  time.Time
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup // the loop, scans, and those who wait for requests
	hints  *hints
	founds chan found
	ended  chan ending
	asked  chan chan struct{} // for a scan; the channel is closed when it is over

	told   atomic.Pointer[Status] // the last Status that was made
	mu     guard                  // guards what follows; only the loop changes it
	files  map[string]*file
	odd    map[string]oddAt
	status Status
	open   int // requests

	// Of the loop alone.
	due      dueHeap
	held     []*file // ready, but too many requests are open
	ready    []*file // to be submitted now
	scan     uint32  // number of the last scan that was begun
	scanning bool
	again    bool // a scan is to follow the one that runs
	waiting  []chan struct{}
	back     []*file // that were missed and are there again, which is to be noted
	partial  int     // scans of single directories that run
	scanErr  error
	scanFrom time.Time
}

// file is what is known of a name. It is small, which a test holds on to: there are many.
type file struct {
	*noted
	path  string
	seen  sideeffect.Version // as last seen; zero: it is not there
	why   string             // it waits, or has failed; for people
	since int64              // ns of Watcher.began: when seen was first
	at    int64              // when it is looked at again
	scan  uint32             // that has seen it last
	heap  int32              // place in Watcher.due, from 1; 0: none
	tries uint16             // looks that found it open for writing, in a row
	state stateCode
	held  bool // in Watcher.held
	newer bool // a version that is newer than sent waits for the end of its requests
}

// noted is what is in a file's note.
type noted struct {
	sent     sideeffect.Version // zero: there is no note
	reqs     []outcome          // nil once they do not matter any more
	gone     int64              // unix s: since when the file has been missed
	left     string             // why it could not be moved or removed, for people; not noted
	renaming bool               // renames alone may make it another version than sent
}

// nothing is that of files without a note. Nobody writes to it.
var nothing = &noted{}

// stateCode is the State of sent.
type stateCode uint8

const (
	none stateCode = iota
	isOpen
	isDelivered
	isKept
	isFailed
)

var states = [...]State{"", Open, Delivered, Kept, Failed}

// outcome is a request and what has become of it.
type outcome struct {
	request
	over   bool
	failed string // why; "": it is DONE, or not over
}

// oddAt is what cannot be sent, and the scan that has seen it last.
type oddAt struct {
	why  string
	scan uint32
}

// ending is the end of a request.
type ending struct {
	path   string
	id     textID
	failed string // "": DONE
}

// Limits of a folder's work.
const (
	mostOdd       = 1000 // that are remembered
	mostNoted     = 512  // files of one commit
	mostPartial   = 16   // scans of single directories at a time
	writerFirst   = 25 * time.Millisecond
	writerMost    = time.Second
	forgetAfter   = 7 * 24 * time.Hour
	forgetNothing = time.Hour // of a process: its clock may be set yet, and file systems be mounted
)

// Watch begins a folder. It goes on with what the notes have.
func Watch(cfg Config) (*Watcher, error) {
	if err := cfg.Folder.Check(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.watcher == nil {
		cfg.watcher = fsnotify.NewWatcher
	}
	if cfg.young == 0 {
		cfg.young = forgetNothing
	}
	w := &Watcher{
		cfg: cfg, f: &cfg.Folder, log: cfg.Log.With("folder", cfg.Folder.Name), began: time.Now(), hints: newHints(cfg.Folder.Root, cfg.watcher),
		founds: make(chan found), ended: make(chan ending, mostNoted), asked: make(chan chan struct{}), files: map[string]*file{}, odd: map[string]oddAt{},
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.status.Folder = cfg.Folder
	if err := w.load(); err != nil {
		w.cancel()
		w.hints.close()
		return nil, err
	}
	w.work.Go(w.loop)
	return w, nil
}

// Stop ends it. What it has begun goes on with the next Watch. It waits for what the file system is
// asked for, which may be for ever.
func (w *Watcher) Stop() {
	w.cancel()
	w.work.Wait()
	w.hints.close()
}

func (w *Watcher) now() int64 { return int64(time.Since(w.began)) }

func (w *Watcher) ref(id textID) store.Ref {
	return store.Ref{Key: lifecycle.Key{Requester: w.cfg.Node, ID: lifecycle.ID(id)}, Role: lifecycle.Requester}
}

// loop is the folder.
func (w *Watcher) loop() {
	w.resume()
	w.beginScan()
	next := time.NewTimer(w.f.Interval)
	defer next.Stop()
	look := time.NewTimer(0)
	defer look.Stop()
	for w.ctx.Err() == nil {
		w.submit()
		if len(w.due) > 0 {
			look.Reset(time.Duration(max(0, w.due[0].at-w.now())))
		} else {
			look.Stop()
		}
		select {
		case <-w.ctx.Done():
		case path := <-w.hints.events:
			w.hinted(path)
		case <-w.hints.lost:
			w.beginScan()
		case part := <-w.founds:
			w.merge(part)
			if part.over {
				w.retry() // before the next scan: it gives files other versions
				if w.again {
					w.beginScan()
				}
				w.submit()
				w.tell()
				next.Reset(w.f.Interval)
			}
		case e := <-w.ended:
			w.over(e)
		case done := <-w.asked:
			w.waiting = append(w.waiting, done)
			w.beginScan()
		case <-look.C:
			w.lookDue()
		case <-next.C:
			w.beginScan()
		}
	}
	w.scanning = false
	w.tell()
}

// tell lets those go on who wait for a scan, unless one follows for them.
func (w *Watcher) tell() {
	if w.scanning {
		return
	}
	for _, done := range w.waiting {
		close(done)
	}
	w.waiting = nil
}

// schedule looks at a file again after a while.
func (w *Watcher) schedule(f *file, after time.Duration) {
	f.at = w.now() + int64(after)
	if f.heap > 0 {
		heap.Fix(&w.due, int(f.heap)-1)
	} else {
		heap.Push(&w.due, f)
	}
}

// unschedule takes it out.
func (w *Watcher) unschedule(f *file) {
	if f.heap > 0 {
		heap.Remove(&w.due, int(f.heap)-1)
	}
}

// dueHeap is files by when they are looked at.
type dueHeap []*file

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heap, h[j].heap = int32(i+1), int32(j+1)
}

// Push implements heap.Interface.
func (h *dueHeap) Push(v any) {
	f := v.(*file)
	*h = append(*h, f)
	f.heap = int32(len(*h))
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	f := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	f.heap = 0
	return f
}
