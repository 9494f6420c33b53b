package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// What is measured at servers, beside other clients. Each run begins with nothing: a
// plugin's process, or the other program, is started and logs in.

// A set is files that are moved together.
type set struct {
	local string // its directory in the workspace, of what is sent
	names []string
	size  int64 // of each
	once  int   // at a time
}

func (s set) bytes() int64 { return int64(len(s.names)) * s.size }

// theLarge is the workspace's source.
func (b *bridgeBench) theLarge() set { return set{"", []string{"source"}, b.cfg.Size, 1} }

func (b *bridgeBench) theMany() set { return set{"many", numbered("m", b.cfg.Files), 250_000, 16} }

// toCopy are files that are copied from server to server, once at a time.
func toCopy(once int) func(*bridgeBench) set {
	return func(b *bridgeBench) set { return set{"few", numbered("c", (b.cfg.Files+1)/2), 10_000, once} }
}

func numbered(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s%03d", prefix, i)
	}
	return names
}

func serverCases() (all []bridgeCase) {
	for _, put := range []bool{true, false} {
		name := map[bool]string{true: "upload", false: "download"}[put]
		for _, c := range []struct {
			name  string
			rival rival
			files func(*bridgeBench) set
		}{
			{"", nil, (*bridgeBench).theLarge}, {"-lftp", lftp{}, (*bridgeBench).theLarge}, {"-sftp", openSSH{}, (*bridgeBench).theLarge},
			{"-rclone", rclone{"s3", "s3+http"}, (*bridgeBench).theLarge},
			{"-many", nil, (*bridgeBench).theMany}, {"-many-lftp", lftp{}, (*bridgeBench).theMany}, {"-many-rclone", rclone{"s3", "s3+http", "sftp"}, (*bridgeBench).theMany},
		} {
			all = append(all, bridgeCase{name: name + c.name, needs: needsServer, rival: c.rival, run: func(ctx context.Context, b *bridgeBench) (BridgeResult, error) {
				return b.moves(ctx, put, c.files(b), c.rival)
			}})
		}
	}
	return ordered(all)
}

func copyCases() (all []bridgeCase) {
	for _, c := range []struct {
		name  string
		files func(*bridgeBench) set
	}{{"copy", (*bridgeBench).theLarge}, {"copy-many", toCopy(1)}, {"copy-many-4", toCopy(4)}} {
		for _, r := range []rival{nil, lftp{}} {
			one := bridgeCase{name: c.name, needs: needsTwo, rival: r, run: func(ctx context.Context, b *bridgeBench) (BridgeResult, error) {
				return b.copies(ctx, c.files(b), r)
			}}
			if r != nil {
				one.name += "-lftp"
			}
			all = append(all, one)
		}
	}
	return ordered(all)
}

// ordered completes cases, of which each that is a plugin's comes before its rivals'.
func ordered(all []bridgeCase) []bridgeCase {
	ours := ""
	for i := range all {
		if all[i].rival == nil {
			ours = all[i].name
		} else {
			all[i].instead = ours
		}
	}
	return all
}

// moves is files to or from the server, by a plugin or a rival.
func (b *bridgeBench) moves(ctx context.Context, put bool, files set, r rival) (result BridgeResult, err error) {
	here, there := filepath.Join(b.w.dir, files.local), b.remote+"/in"
	if !put {
		here, there = filepath.Join(b.w.dir, "down"), b.remote+"/out"
	}
	defer func() {
		if put {
			err = errors.Join(err, b.ends[0].empty(context.WithoutCancel(ctx), there))
		} else {
			err = errors.Join(err, emptyDir(here))
		}
	}()
	move := func(ctx context.Context, s plugins.Session, name string) error {
		if put {
			return upload(ctx, s, filepath.Join(here, name), there+"/"+name, files.size)
		}
		return download(ctx, s, there+"/"+name, filepath.Join(here, name))
	}
	seconds, cpu, err := b.race(ctx, r, errand{at: b.cfg.Endpoint, put: put, local: here, remote: there, names: files.names, once: files.once},
		func(ctx context.Context, s []plugins.Session, name string) error { return move(ctx, s[0], name) })
	if err != nil {
		return result, err
	}
	result.moved(files.bytes(), len(files.names), seconds, cpu)
	if put {
		return result, b.ends[0].holds(ctx, there, files)
	}
	return result, b.same(here, files)
}

// copies is files from server to server.
func (b *bridgeBench) copies(ctx context.Context, files set, r rival) (result BridgeResult, err error) {
	dir := b.remote + "/out"
	defer func() { err = errors.Join(err, b.ends[1].empty(context.WithoutCancel(ctx), dir)) }()
	seconds, cpu, err := b.race(ctx, r, errand{at: b.cfg.Endpoint, to: &b.cfg.CopyTo, remote: dir, names: files.names, once: files.once},
		func(ctx context.Context, s []plugins.Session, name string) error {
			from, ok := s[0].(plugins.Copier)
			if !ok {
				return fault.New("copy", fault.Unsupported, "this server cannot copy to another by itself; with FTP, give --option fxp=any")
			}
			_, err := from.Copy(ctx, dir+"/"+name, s[1], dir+"/"+name, plugins.CopyRequest{})
			return err
		})
	if err != nil {
		return result, err
	}
	result.moved(files.bytes(), len(files.names), seconds, cpu)
	return result, b.ends[1].holds(ctx, dir, files)
}

// race does an errand: a rival does, or a plugin by calling move for each name. The clock
// runs from before the start of its process to after its end.
func (b *bridgeBench) race(ctx context.Context, r rival, e errand, move func(context.Context, []plugins.Session, string) error) (seconds, cpu float64, err error) {
	e.ctx = ctx
	if r != nil {
		if e.dir, err = os.MkdirTemp(b.w.dir, "rival-"); err != nil {
			return 0, 0, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(e.dir)) }()
		seconds, _, err = timed(0, func() error { cpu, err = e.run(r); return err })
		return seconds, cpu, err
	}
	var plugin float64
	seconds, cpu, err = timed(0, func() (err error) {
		p := host.New(b.cfg.Plugin)
		defer func() { err = errors.Join(err, p.Close(context.WithoutCancel(ctx))) }()
		ends := []plugins.Endpoint{e.at}
		if e.to != nil {
			ends = append(ends, *e.to)
		}
		sessions, err := opened(ctx, p, ends)
		for _, s := range sessions {
			defer s.Close()
		}
		if err != nil {
			return err
		}
		all, ctx := errgroup.WithContext(ctx)
		all.SetLimit(e.once)
		for _, name := range e.names {
			all.Go(func() error { return move(ctx, sessions, name) })
		}
		if err := all.Wait(); err != nil {
			return err
		}
		status, err := p.Describe(ctx)
		if err != nil {
			return err
		}
		used, err := usageOf(status.PID)
		plugin = used.CPU()
		return err
	})
	return seconds, cpu + plugin, err
}

// opened logs in to servers, side by side. With an error there are the sessions that could be had.
func opened(ctx context.Context, p *host.Plugin, ends []plugins.Endpoint) (sessions []plugins.Session, err error) {
	all := make([]plugins.Session, len(ends))
	var logins errgroup.Group
	for i, to := range ends {
		logins.Go(func() (err error) {
			all[i], err = p.Open(ctx, to)
			return err
		})
	}
	err = logins.Wait()
	return slices.DeleteFunc(all, func(s plugins.Session) bool { return s == nil }), err
}

func upload(ctx context.Context, s plugins.Session, from, to string, size int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	w, err := s.(plugins.Writer).Write(ctx, to, plugins.WriteRequest{Size: size})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, in); err != nil {
		_, _ = w.Abort(context.WithoutCancel(ctx), false)
		return err
	}
	_, err = w.Commit(ctx)
	return err
}

func download(ctx context.Context, s plugins.Session, from, to string) error {
	in, err := s.Read(ctx, from, 0)
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, in.Close(), out.Close())
}

// same holds what has come against what was sent.
func (b *bridgeBench) same(dir string, files set) error {
	if files.local == "" {
		job := Job{Dir: b.w.dir, Size: files.size, Concurrent: 1}
		if err := os.Rename(filepath.Join(dir, files.names[0]), job.Target(0)); err != nil {
			return err
		}
		return errors.Join(b.w.verifyTarget(job, 0), b.w.discard(job))
	}
	for _, name := range files.names {
		want, err1 := os.ReadFile(filepath.Join(b.w.dir, files.local, name))
		got, err2 := os.ReadFile(filepath.Join(dir, name))
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if !bytes.Equal(want, got) {
			return fault.New("verify download", fault.Corrupt, "%s is not what was sent", name)
		}
	}
	return nil
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
	}
	return err
}
