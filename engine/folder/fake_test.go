package folder

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// fake is an engine that delivers what a real one would: by the name, and only the version that
// is expected. It keeps what was delivered.
type fake struct {
	t     *testing.T
	root  string
	notes *Notes

	mu        sync.Mutex
	cond      *sync.Cond
	records   map[lifecycle.ID]*lifecycle.Record
	delivered map[string][]string // content by path, in order
	versions  map[string]int      // how often each version of a path was
	hold      bool                // nothing is carried out
	refuse    error               // of Submit
	refuseFor string              // a partner: Submit refuses it
	fails     string              // of what is carried out
	failsFor  string              // a partner: all of it
	submits   int
	together  []int // of each
}

func newFake(t *testing.T, root string, notes *Notes) *fake {
	e := &fake{t: t, root: root, notes: notes, records: map[lifecycle.ID]*lifecycle.Record{}, delivered: map[string][]string{}, versions: map[string]int{}}
	e.cond = sync.NewCond(&e.mu)
	return e
}

func (e *fake) Submit(_ context.Context, o engine.Order) (lifecycle.Record, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refuse != nil {
		return lifecycle.Record{}, false, e.refuse
	}
	if o.Partner == e.refuseFor {
		return lifecycle.Record{}, false, fault.New("submit", fault.Permission, "rule does not list partner %q", o.Partner)
	}
	if r := e.records[o.ID]; r != nil {
		return *r, false, nil
	}
	e.submits++
	e.together = append(e.together, o.Together)
	r := &lifecycle.Record{Key: lifecycle.Key{Requester: "here", ID: o.ID}, State: lifecycle.ToSubmit, Spec: lifecycle.Spec{Partner: o.Partner, Rule: o.Rule, Source: o.Source}}
	e.records[o.ID] = r
	if !e.hold {
		e.carryOut(r)
	}
	return *r, true, nil
}

// carryOut sends it. e.mu is held.
func (e *fake) carryOut(r *lifecycle.Record) {
	end := func(s lifecycle.State, why string) {
		r.State, r.Failure.Cause = s, why
		e.cond.Broadcast()
	}
	if e.fails != "" || r.Spec.Partner == e.failsFor {
		end(lifecycle.InError, e.fails)
		return
	}
	path := filepath.Join(e.root, r.Spec.Source.String())
	f, err := os.Open(path)
	if err != nil {
		end(lifecycle.InError, err.Error())
		return
	}
	defer f.Close()
	v, only, err := e.notes.Expect(r.Key.ID)
	fi, err2 := f.Stat()
	if err != nil || err2 != nil || only && sideeffect.VersionOf(fi).WithoutDevice() != v {
		end(lifecycle.InError, "another version")
		return
	}
	b, _ := os.ReadFile(path)
	if now, err := f.Stat(); err != nil || sideeffect.VersionOf(now) != sideeffect.VersionOf(fi) {
		end(lifecycle.InError, "changed")
		return
	}
	e.delivered[r.Spec.Source.String()] = append(e.delivered[r.Spec.Source.String()], string(b))
	e.versions[r.Spec.Source.String()+string(sideeffect.VersionOf(fi).Encode())]++
	end(lifecycle.Done, "")
}

// set changes what the engine does, which runs.
func (e *fake) set(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
}

// release carries out what was held, and what comes.
func (e *fake) release() {
	e.set(func() { e.hold = false })
	e.carryOutAll()
}

// carryOutAll carries out what was held.
func (e *fake) carryOutAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.records {
		if r.State == lifecycle.ToSubmit {
			e.carryOut(r)
		}
	}
}

func (e *fake) Get(_ context.Context, ref store.Ref) (engine.Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.records[ref.Key.ID]; r != nil {
		return engine.Status{Record: *r}, nil
	}
	return engine.Status{}, fault.New("get", fault.NotFound, "no request")
}

func (e *fake) Wait(ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
	defer context.AfterFunc(ctx, func() { e.set(e.cond.Broadcast) })() // not between the look at ctx and the wait
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		r := e.records[ref.Key.ID]
		switch {
		case r == nil:
			return lifecycle.Record{}, fault.New("wait", fault.NotFound, "no request")
		case r.State.Final():
			return *r, nil
		case ctx.Err() != nil:
			return *r, fault.Wrap("wait", "", ctx.Err())
		}
		e.cond.Wait()
	}
}

func (e *fake) Cancel(_ context.Context, ref store.Ref, why string) (lifecycle.Record, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.records[ref.Key.ID]
	if !r.State.Final() {
		r.State, r.Failure.Cause = lifecycle.InError, why
		e.cond.Broadcast()
	}
	return *r, nil
}

func (e *fake) got(path string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.delivered[path]...)
}

// bench is a folder with a fake engine.
type bench struct {
	*fake
	t     *testing.T
	dir   string
	cfg   Config
	watch *Watcher
}

func pathOf(t testing.TB, s string) relpath.Path {
	p, err := relpath.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// begin starts a folder in directories of its own, changed as change says.
func begin(t *testing.T, change func(*Folder)) *bench {
	t.Helper()
	return beginIn(t, t.TempDir(), change)
}

// beginIn is begin in a directory that is there; the rule's root is "root" in it, the folder's "in" in that.
func beginIn(t *testing.T, dir string, change func(*Folder)) *bench {
	t.Helper()
	b := &bench{t: t, dir: dir}
	root := filepath.Join(b.dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	notes, err := OpenNotes(filepath.Join(b.dir, "folders.db"))
	if err != nil {
		t.Fatal(err)
	}
	b.fake = newFake(t, root, notes)
	b.cfg = Config{Node: "here", Engine: b.fake, Notes: notes, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Folder: Folder{
		Name: "f", Rule: "out", Root: root, Partners: []string{"there"}, Dir: pathOf(t, "in"), Recursive: true, Stable: MinStable, Interval: time.Hour, Open: 100,
	}}
	if change != nil {
		change(&b.cfg.Folder)
	}
	b.start()
	t.Cleanup(func() { b.watch.Stop(); notes.Close() })
	return b
}

func (b *bench) start() {
	b.t.Helper()
	w, err := Watch(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.watch = w
}

func (b *bench) restart() {
	b.t.Helper()
	b.watch.Stop()
	b.start()
}

func (b *bench) write(name, content string) {
	b.t.Helper()
	full := filepath.Join(b.root, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// until waits for something that has to come.
func (b *bench) until(what string, is func() bool) {
	b.t.Helper()
	for began := time.Now(); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > 2*time.Minute {
			b.t.Fatalf("never: %s; %+v", what, b.watch.Status(20))
		}
	}
}

// settle waits for a scan, and until nothing waits or is under way.
func (b *bench) settled() Status {
	b.t.Helper()
	var s Status
	b.until("all is settled", func() bool {
		if err := b.watch.Scan(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
		s = b.watch.Status(MostRows)
		return s.Open+s.Waiting+s.Held == 0
	})
	return s
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
