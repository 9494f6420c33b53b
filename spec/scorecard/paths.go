package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/rpctest"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// openPatience is how long one open may take before it counts as hanging.
const openPatience = 20 * time.Second

var paths = check{
	id: 35, title: "over 500 hostile names as source and sink of the package and of calls, at either end, of a bridge and of a listener; links swapped while files are opened: nothing outside is read, made or changed, nothing hangs",
	unit: "escapes", n: counts{reduced: 2, full: 60, control: 30},
	mutant:  "the name's links are followed, the result compared with the root, then opened; a bridge's file, and a listener's directory, is opened by its path",
	several: []string{"race", "bridge", "listener"},
	edits: []edit{
		{"spec/scorecard/swap.go", "	b, err := s.source()\n", `	b, err := s.source()
	if mutant("35 race") {
		root := filepath.Join(s.dir, "root")
		path, looked := filepath.EvalSymlinks(filepath.Join(root, "d/f"))
		if b, err = nil, looked; looked == nil && len(path) > len(root) && path[:len(root)+1] == root+"/" {
			b, err = os.ReadFile(filepath.Join(root, "d/f"))
		}
	}
`},
		{"plugins/dir/dir.go", "	f, err := s.root.OpenFile(at(name), os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not wait for its other end\n",
			`	f, err := s.root.OpenFile(at(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if mutant("35 bridge") {
		f, err = os.OpenFile(path.Join(s.root.Name(), name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
`},
		{"engine/guest/session.go", "	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0) // a FIFO must not wait for its other end\n",
			`	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if mutant("35 listener") {
		f, err = os.OpenFile(root.Name()+"/"+name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	}
`},
	},
	run: runPaths,
}

// pathRun is a folder with traps and what lies outside of it.
type pathRun struct {
	root         *os.Root
	dir, outside string
	before       string // rpctest.Tree of both
	note         note
	tries        int
	escapes      int
	hangs        int
}

func runPaths(ctx context.Context, j *job) (result, error) {
	var r pathRun
	if err := r.prepare(j.dir); err != nil {
		return result{}, err
	}
	defer r.root.Close()
	if err := r.names(ctx); err != nil {
		return result{}, err
	}
	s := swap{dir: filepath.Join(j.dir, "swap")}
	if r.escapes > 0 {
		return r.result(0, s), nil
	}
	if err := s.run(ctx, time.Duration(j.n)*time.Second); err != nil {
		return result{}, err
	}
	r.escapes += s.escapes
	if s.escapes > 0 {
		r.note.add("%d opens in the race went outside", s.escapes)
	}
	return r.result(j.n, s), nil
}

// result is of both, after so many seconds of the race.
func (r *pathRun) result(seconds int, s swap) result {
	return r.note.result(float64(r.escapes), "%d opens of %d names, %d hung; %d opens (%d of them good) in %d s of swapping", r.tries, len(rpctest.HostileNames()), r.hangs, s.tries, s.good, seconds)
}

func (r *pathRun) prepare(dir string) (err error) {
	r.dir, r.outside = filepath.Join(dir, "inside"), filepath.Join(dir, "outside")
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return fault.Wrap("prepare paths", "", err)
	}
	if err := rpctest.SetTrap(r.dir, r.outside); err != nil {
		return err
	}
	if r.root, err = os.OpenRoot(r.dir); err != nil {
		return fault.Wrap("prepare paths", "", err)
	}
	r.before, err = rpctest.Tree(r.dir, r.outside)
	return err
}

// entry is one way in for a name.
type entry struct {
	what string
	open func(ctx context.Context, name string) error
}

// names tries every name at every entry.
func (r *pathRun) names(ctx context.Context) error {
	pipe := carrier.NewPipe()
	s, err := serving(rpc.ServerConfig{Pipe: pipe}, "pipe:", r.serve)
	if err != nil {
		return err
	}
	defer s.stop()
	cc, err := rpc.Dial("pipe:", rpc.ClientConfig{Pipe: pipe})
	if err != nil {
		return err
	}
	defer cc.Close()
	sessions, leave, err := r.sessions(ctx)
	if err != nil {
		return err
	}
	defer leave()
	entries := append(r.entries(cc), sessions...)
	for _, name := range rpctest.HostileNames() {
		for _, e := range entries {
			r.try(ctx, e, name)
		}
		if after, err := rpctest.Tree(r.dir, r.outside); err != nil || after != r.before {
			r.escapes++
			r.note.add("%.60q has changed the folder: %v\n%s", name, err, after)
			return nil
		}
	}
	return nil
}

func (r *pathRun) entries(cc *rpc.ClientConn) (all []entry) {
	file := func(name string) sideeffect.Identity { return sideeffect.File(r.root, name) }
	all = append(all, entry{"source", func(_ context.Context, name string) error {
		s, err := file(name).OpenSource(sideeffect.SourceSpec{})
		if err == nil {
			s.Close()
		}
		return err
	}})
	for m := sideeffect.Replace; m <= sideeffect.AtOffset; m++ {
		all = append(all, entry{"sink, " + m.String(), func(_ context.Context, name string) error {
			s, err := file(name).OpenSink(sideeffect.SinkSpec{Mode: m})
			if err == nil {
				s.Close()
			}
			return err
		}})
	}
	for _, size := range []int{10, 20 << 10} { // inside the message, on a stream
		up := func(id sideeffect.Identity) *sideeffect.Descriptor {
			return &sideeffect.Descriptor{Direction: sideeffect.ClientToServer, Quota: sideeffect.NoQuota, Local: id}
		}
		down := func(id sideeffect.Identity) *sideeffect.Descriptor {
			return &sideeffect.Descriptor{Direction: sideeffect.ServerToClient, Quota: sideeffect.NoQuota, Local: id}
		}
		resumed := func(id sideeffect.Identity) *sideeffect.Descriptor { d := down(id); d.Resume = true; return d }
		good := func() sideeffect.Identity { return sideeffect.Memory(make([]byte, size)) }
		all = append(all,
			entry{"client's source", func(ctx context.Context, name string) error { return put(ctx, cc, "", up(file(name))) }},
			entry{"client's sink", func(ctx context.Context, name string) error { return put(ctx, cc, "", down(file(name))) }},
			entry{"client's sink, resumable", func(ctx context.Context, name string) error { return put(ctx, cc, "", resumed(file(name))) }},
			entry{"server's sink", func(ctx context.Context, name string) error { return put(ctx, cc, escape(name), up(good())) }},
			entry{"server's source", func(ctx context.Context, name string) error { return put(ctx, cc, escape(name), down(good())) }},
		)
	}
	return all
}

// escape makes any bytes a text that protobuf takes; "" stands for no name.
func escape(name string) string { return fmt.Sprintf("%q", name) }

// serve is the server's handler: a name is opened, none means memory.
func (r *pathRun) serve(ctx context.Context, quoted string) error {
	se, err := rpc.SideEffect(ctx)
	if err != nil {
		return err
	}
	d := &sideeffect.Descriptor{Direction: se.Direction(), Quota: sideeffect.NoQuota, Local: sideeffect.Memory(make([]byte, 20<<10))}
	if quoted != "" {
		var name string
		if _, err := fmt.Sscanf(quoted, "%q", &name); err != nil {
			return fault.Wrap("read name", "", err)
		}
		d.Local = sideeffect.File(r.root, name)
	}
	return se.Run(ctx, d, sideeffect.AwaitRemote)
}

// try opens one name and sees that it is refused in time.
func (r *pathRun) try(ctx context.Context, e entry, name string) {
	r.tries++
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	go func() { done <- e.open(ctx, name) }()
	select {
	case err := <-done:
		switch k := fault.KindOf(err); {
		case err == nil:
			r.escapes++
			r.note.add("%s: %.60q was opened", e.what, name)
		case k != fault.Invalid && k != fault.TooLong && k != fault.Permission && k != fault.NotFound && k != fault.Exists:
			r.note.add("%s: %.60q: %v", e.what, name, err)
		}
	case <-time.After(openPatience):
		r.hangs++
		r.note.add("%s: %.60q hangs", e.what, name)
	}
}
