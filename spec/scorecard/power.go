package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/scorecard/disks"
)

var powerCut = check{
	id: 4, title: "power cuts during transfers, on ext4 and XFS, the receiver's store and files on it: what was acknowledged is on the disk and right, the store is whole, what remains is fetched and identical",
	unit: "violations", n: counts{reduced: 8, full: 1000, control: 4},
	mutant: "data is not synced before its offset is told",
	edits:  []edit{{"sideeffect/layer_linux.go", "return f.control(\"fdatasync\", func(fd int) error { return unix.Fdatasync(fd) })", `if mutant("4") { return nil }; return f.control("fdatasync", func(fd int) error { return unix.Fdatasync(fd) })`}},
	run: func(ctx context.Context, j *job) (result, error) {
		return runPower(ctx, j, powerRun{size: 16 * mib, every: 256 << 10, most: 0.9, kind: "of acknowledged bytes"}, (*power).within)
	},
}

var powerAtEnd = check{
	id: 5, title: "power cuts within 20 ms of a transfer's end, on ext4 and XFS: what was called DONE is on the disk, whole, under its name; no part ever is",
	unit: "violations", n: counts{reduced: 10, full: 500, control: 10},
	mutant: "directories are not synced",
	edits:  []edit{{"sideeffect/layer.go", "	return errors.Join(dirSyncs.sync(f), f.Close())", `	if mutant("5") { return f.Close() }; return errors.Join(f.Sync(), f.Close())`}},
	run: func(ctx context.Context, j *job) (result, error) {
		return runPower(ctx, j, powerRun{size: 1 * mib, every: 256 << 10, most: 0.1, kind: "of finished transfers"}, (*power).atEnd)
	},
}

// powerRun is what the two checks differ in.
type powerRun struct {
	size  int
	every int64
	most  float64 // share of cuts that a mutant has to show violations in
	kind  string
}

// power is one file system whose power is cut again and again. Node b lives on it.
type power struct {
	duo
	*note
	img      *disks.Disk
	kind     string    // of file system
	contents [2][]byte // what files hold in turn
	transfer int       // number of the one that runs
	id       string    // of its request
	at       *nodetest.Node
	told     int64 // bytes of it that a was ever told to be safe
	rank     int64 // that b had as safe after the last cut
	cuts     int
	violated int // cuts after which something was wrong
	useful   int // cuts that could have shown something
}

// runPower cuts the power of either file system half of the times.
func runPower(ctx context.Context, j *job, r powerRun, one func(*power, context.Context, *job) error) (result, error) {
	var w note
	violated, cuts, useful := 0, 0, 0
	began := time.Now()
	var detail string
	for i, kind := range []string{"ext4", "xfs"} {
		p, err := newPower(ctx, j, kind, r, &w)
		if err != nil {
			return result{}, err
		}
		began := time.Now()
		for p.cuts < (j.n+i)/2 && err == nil {
			err = one(p, ctx, j)
		}
		took := time.Since(began)
		if err == nil && p.id != "" {
			if err = p.finish(ctx, p.at, p.id); err != nil {
				w.add("%s: the last transfer: %v", kind, err)
				err = nil
			}
			w.mustEqual(kind+": the last transfer", filepath.Join(p.b.Root, p.name()), p.content())
		}
		err = errors.Join(err, p.close(), p.img.Remove())
		if err != nil {
			return result{}, err
		}
		violated, cuts, useful = violated+p.violated, cuts+p.cuts, useful+p.useful
		detail += fmt.Sprintf("; %s: %d cuts, %d ms each, %d %s, %d violations", kind, p.cuts, took.Milliseconds()/int64(max(p.cuts, 1)), p.useful, r.kind, p.violated)
	}
	res := w.result(float64(violated), "%d cuts in %.0f s%s", cuts, time.Since(began).Seconds(), detail)
	if j.broken && float64(violated) < r.most*float64(useful) { // the mutant is found by chance only
		res.pass, res.detail = true, fmt.Sprintf("only %d of %d cuts have found it", violated, useful)
	}
	return res, nil
}

func newPower(ctx context.Context, j *job, kind string, r powerRun, w *note) (*power, error) {
	dir := filepath.Join(j.dir, kind+"-nodes")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fault.Wrap("make directory", dir, err)
	}
	img, err := disks.New(ctx, j.dir, kind)
	if fault.KindOf(err) == fault.Unsupported {
		return nil, cannot{err}
	}
	if err != nil {
		return nil, err
	}
	o := duoSettings{every: r.every, window: 256 << 10}
	o.place[1] = []string{filepath.Join(img.At, "state"), filepath.Join(img.At, "files")}
	d, err := newDuo(ctx, dir, o)
	if err == nil {
		err = img.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, img.Remove())
	}
	p := &power{duo: *d, note: w, img: img, kind: kind}
	for i := range p.contents {
		p.contents[i] = content(j.rnd, r.size)
		if err := os.WriteFile(filepath.Join(p.a.Root, fmt.Sprint("source", i)), p.contents[i], 0o644); err != nil {
			return nil, errors.Join(fault.Wrap("write source", "", err), p.close(), img.Remove())
		}
	}
	return p, nil
}

// name and content are of the transfer that runs: few names, so that files are
// replaced by others.
func (p *power) name() string    { return fmt.Sprint("file", p.transfer/2%4) }
func (p *power) content() []byte { return p.contents[p.transfer%2] }

// begin begins the next transfer, registered at either end in turn.
func (p *power) begin(ctx context.Context) (err error) {
	p.transfer++
	p.told, p.rank = 0, 0
	source := filepath.Join(p.a.Root, p.name())
	if err := os.Remove(source); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Wrap("replace source", source, err)
	}
	if err := os.Link(filepath.Join(p.a.Root, fmt.Sprint("source", p.transfer%2)), source); err != nil {
		return fault.Wrap("make source", source, err)
	}
	p.at, p.id, err = p.toB(ctx, p.transfer/2, p.name())
	return err
}

// within cuts while bytes move, after more of them were made durable.
func (p *power) within(ctx context.Context, j *job) error {
	if p.id == "" {
		if err := p.begin(ctx); err != nil {
			return err
		}
	} else {
		p.hurry(ctx, p.at, p.id)
	}
	before := max(p.told, p.rank) // a request that never gets on is taken for poison
	for end := time.Now().Add(20 * time.Second); ; {
		r, err := get(ctx, p.b, p.id)
		if err != nil {
			return err
		}
		if r.GetState() == adminpb.Request_DONE {
			p.mustEqual("a finished transfer", filepath.Join(p.b.Root, p.name()), p.content())
			if err := p.finish(ctx, p.at, p.id); err != nil {
				return err
			}
			if err := p.begin(ctx); err != nil {
				return err
			}
			before = 0
			continue
		}
		if r.GetDurable() > before {
			break
		}
		if time.Now().After(end) {
			return fault.New("cut power", fault.Deadline, "after %d cuts nothing moves: %v", p.cuts, r)
		}
		if r.GetState() == adminpb.Request_INTERRUPTED {
			p.hurry(ctx, p.at, p.id)
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Duration(j.rnd.Int64N(int64(30 * time.Millisecond))))
	return p.cut(ctx)
}

// atEnd begins a transfer and cuts about when it ends.
func (p *power) atEnd(ctx context.Context, j *job) error {
	if p.id != "" {
		if err := p.finish(ctx, p.at, p.id); err != nil {
			p.add("after %d cuts: %v", p.cuts, err)
		}
	}
	if err := p.begin(ctx); err != nil {
		return err
	}
	for end := time.Now().Add(20 * time.Second); ; {
		r, err := get(ctx, p.b, p.id)
		if err != nil {
			return err
		}
		if phase := r.GetPhase(); phase == "WHOLE" || r.GetState() == adminpb.Request_DONE || phase == "COMMITTED" || phase == "POST" || phase == "POSTED" || phase == "FINISHED" {
			break
		}
		if time.Now().After(end) {
			return fault.New("cut power", fault.Deadline, "after %d cuts nothing moves: %v", p.cuts, r)
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Duration(j.rnd.Int64N(int64(20 * time.Millisecond))))
	return p.cut(ctx)
}

// cut cuts the power of b: the process and its disk stop together. Then it looks at
// what is on the disk, and starts b again.
func (p *power) cut(ctx context.Context) error {
	shown, err := get(ctx, p.b, p.id) // what b itself has shown before the cut it has on its disk, too
	if err != nil {
		return err
	}
	if err := p.b.Freeze(); err != nil {
		return err
	}
	if err := p.img.Cut(); err != nil {
		return err
	}
	p.cuts++
	p.b.Kill()
	told, err := p.settled(ctx)
	if err != nil {
		return err
	}
	p.told = max(p.told, told.GetDurable())
	if err := p.img.Again(); err != nil {
		return err
	}
	wrong := p.n
	if err := p.onDisk(ctx, told, shown); err != nil {
		return err
	}
	if p.n > wrong {
		p.violated++
	}
	return p.b.Start(ctx)
}

// settled is the request as a has it once it knows that b is gone. One that only
// waits for an answer learns nothing any more, and does not know for as long as its
// session looks for another connection.
func (p *power) settled(ctx context.Context) (*adminpb.Request, error) {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		r, err := get(ctx, p.a, p.id)
		if err != nil {
			return nil, err
		}
		if r.GetState() != adminpb.Request_RUNNING || strings.HasPrefix(r.GetLive().GetDoing(), "waiting for the partner") {
			return r, nil
		}
		if time.Now().After(end) {
			return nil, fault.New("cut power", fault.Deadline, "the sender does not notice: %v", r)
		}
	}
}

// onDisk compares what was told with what is there. Nobody runs on the disk.
func (p *power) onDisk(ctx context.Context, told, shown *adminpb.Request) error {
	store := filepath.Join(p.b.State, "store.db")
	if err := boltstore.Verify(store); err != nil {
		p.add("the store: %v", err)
		return nil
	}
	what := fmt.Sprintf("%s, cut %d, %v", p.kind, p.cuts, p.at.Name)
	r, err := recordOf(ctx, p.b, p.id)
	if err != nil {
		p.add("%s: the record is gone: %v", what, err)
		return nil
	}
	p.rank = r.Rank
	target := filepath.Join(p.b.Root, p.name())
	same, _, err := prefix(partialOf(p.b.Root, p.name()), p.content())
	if err != nil {
		return err
	}
	whole, size, err := prefix(target, p.content())
	if err != nil {
		return err
	}
	complete := whole == int64(len(p.content())) && size == whole
	old, oldSize, err := prefix(target, p.contents[(p.transfer+1)%2])
	if err != nil {
		return err
	}
	if size > 0 && !complete && (old != oldSize || old != int64(len(p.content()))) {
		p.add("%s: the name has %d bytes, %d of them right: neither the old nor the new content", what, size, whole)
	}
	if complete {
		same = whole
	}
	done := func(r *adminpb.Request) bool {
		return r.GetState() == adminpb.Request_DONE || r.GetSide() == adminpb.Request_SENDER && acked(r.GetPhase())
	}
	if done(told) || done(shown) || r.Phase >= lifecycle.Committed {
		p.useful++
		if !complete {
			p.add("%s: it is %s at the sender, %v here, and the file has %d of %d bytes right", what, told.GetPhase(), r.Phase.Name(r.Side), whole, len(p.content()))
		}
		return nil
	}
	if p.told > 0 {
		p.useful++
	}
	if p.told > r.Rank {
		p.add("%s: %d bytes were told to be safe, the record has %d", what, p.told, r.Rank)
	}
	if r.Rank > same {
		p.add("%s: %d bytes are recorded as safe, %d are right", what, r.Rank, same)
	}
	if p.told > same {
		p.add("%s: %d bytes were told to be safe, %d are right", what, p.told, same)
	}
	return nil
}

// acked reports whether a sender in that phase knows that the receiver has the file.
func acked(phase string) bool {
	return phase == "ACKED" || phase == "POST" || phase == "POSTED" || phase == "FINISHED"
}
