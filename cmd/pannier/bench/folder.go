package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// FolderConfig is what to measure of a watch folder.
type FolderConfig struct {
	Cases    []string // names; none: all
	Runs     int      // rounds, of which the median counts
	Count    int      // files that are written one after the other
	Tree     int      // files of the tree
	Dir      string   // where files and stores go. Default: the temporary directory
	Program  []string // this program
	Progress io.Writer
}

// FolderResult is one case: medians over the runs.
type FolderResult struct {
	Case   string  `json:"case"`
	Files  int     `json:"files"`
	P50    float64 `json:"close_to_submit_p50_ms,omitempty"`
	P99    float64 `json:"close_to_submit_p99_ms,omitempty"`
	Found  float64 `json:"found_s,omitempty"`     // from the start of the look through everything to its end
	CPU    float64 `json:"cpu_s,omitempty"`       // of the daemon, from its start until all are found
	Before float64 `json:"before_mib,omitempty"`  // memory of the daemon's process with an empty folder
	MaxRSS float64 `json:"max_rss_mib,omitempty"` // the most it had
}

// folderCases: "closed" and "stable" write files one after the other, each in four parts within 20 ms, with
// a folder that goes by the end of writing, or by 50 ms without a change; "tree" finds many in 1,000
// directories.
var folderCases = []struct {
	name, settings string
	run            func(*folderBench) (FolderResult, error)
}{
	{"closed", "closed = true\n", (*folderBench).written},
	{"stable", "stable = \"50ms\"\n", (*folderBench).written},
	{"tree", "stable = \"1h\"\n", (*folderBench).tree},
}

// FolderCases are the names of all cases.
func FolderCases() (names []string) {
	for _, c := range folderCases {
		names = append(names, c.name)
	}
	return names
}

// Folder measures a daemon, a process of its own, with a watch folder whose partner is away.
func Folder(ctx context.Context, cfg FolderConfig) (results []FolderResult, err error) {
	for _, name := range cfg.Cases {
		if !slices.Contains(FolderCases(), name) {
			return nil, fault.New("check flags", fault.Invalid, "no case %q; there are %v", name, FolderCases())
		}
	}
	if cfg.Dir, err = os.MkdirTemp(cfg.Dir, "pannier-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cfg.Dir)) }()
	for _, c := range folderCases {
		if len(cfg.Cases) > 0 && !slices.Contains(cfg.Cases, c.name) {
			continue
		}
		var runs []FolderResult
		for round := range cfg.Runs {
			b := &folderBench{ctx: ctx, cfg: cfg, dir: filepath.Join(cfg.Dir, fmt.Sprint(c.name, round))}
			r, err := b.once(c.settings, c.run)
			if err != nil {
				return results, fault.Wrap("bench folder", c.name, err)
			}
			fmt.Fprintf(cfg.Progress, "round %d/%d  %-8s %+v\n", round+1, cfg.Runs, c.name, r)
			r.Case = c.name
			runs = append(runs, r)
		}
		r := runs[0]
		for into, figure := range map[*float64]func(FolderResult) float64{
			&r.P50: func(r FolderResult) float64 { return r.P50 }, &r.P99: func(r FolderResult) float64 { return r.P99 }, &r.Found: func(r FolderResult) float64 { return r.Found },
			&r.CPU: func(r FolderResult) float64 { return r.CPU }, &r.Before: func(r FolderResult) float64 { return r.Before }, &r.MaxRSS: func(r FolderResult) float64 { return r.MaxRSS },
		} {
			*into = medianOf(runs, figure)
		}
		results = append(results, r)
	}
	return results, nil
}

// folderBench is one run.
type folderBench struct {
	ctx  context.Context
	cfg  FolderConfig
	dir  string
	node *nodetest.Node
}

func (b *folderBench) once(settings string, run func(*folderBench) (FolderResult, error)) (r FolderResult, err error) {
	a, away, err := nodetest.Pair(b.dir, b.cfg.Program...)
	if err != nil {
		return r, err
	}
	b.node = a
	defer a.Close()
	rule := "[[rule]]\nname = \"out\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\n[[folder]]\nname = \"box\"\nrule = \"out\"\npartner = \"hostb\"\nrecursive = true\n"
	if err := a.Write(nil, nil, rule+settings, away); err != nil {
		return r, err
	}
	if err := a.Start(b.ctx); err != nil {
		return r, err
	}
	return run(b)
}

// written writes files and compares when each was closed with when its request was registered.
func (b *folderBench) written() (r FolderResult, err error) {
	client, err := b.node.Client()
	if err != nil {
		return r, err
	}
	closed := map[string]time.Time{}
	for i := range b.cfg.Count {
		name := fmt.Sprint("file", i)
		f, err := os.Create(filepath.Join(b.node.Root, name))
		if err != nil {
			return r, err
		}
		for range 4 {
			if _, err := f.Write(make([]byte, 16<<10)); err != nil {
				return r, errors.Join(err, f.Close())
			}
			time.Sleep(5 * time.Millisecond)
		}
		if err := f.Close(); err != nil {
			return r, err
		}
		closed[name] = time.Now()
		time.Sleep(30 * time.Millisecond)
	}
	var times []time.Duration
	for began := time.Now(); len(times) < b.cfg.Count; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			return r, fault.New("wait for requests", fault.Deadline, "%d of %d files were submitted", len(times), b.cfg.Count)
		}
		times = times[:0]
		s, err := client.List(b.ctx, &adminpb.ListRequest{})
		if err != nil {
			return r, err
		}
		for {
			q, err := s.Recv()
			if err == io.EOF {
				break
			}
			if err != nil {
				return r, err
			}
			times = append(times, q.GetRegistered().AsTime().Sub(closed[q.GetSource()]))
		}
	}
	l := summarize(times)
	r.Files, r.P50, r.P99 = b.cfg.Count, l.P50/1000, l.P99/1000
	u, err := usageOf(b.node.PID())
	r.MaxRSS = float64(u.PeakRSS) / mib
	return r, err
}

// tree makes many files while the daemon is away, and has it find them.
func (b *folderBench) tree() (r FolderResult, err error) {
	u, err := usageOf(b.node.PID())
	if err != nil {
		return r, err
	}
	r.Before = float64(u.PeakRSS) / mib
	b.node.Kill()
	const dirs = 1000
	for i := range b.cfg.Tree {
		dir := filepath.Join(b.node.Root, fmt.Sprint("branch", i%dirs/100), fmt.Sprint("directory", i%dirs))
		if i < dirs {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return r, err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("invoice-%08d.xml", i)), []byte("x"), 0o644); err != nil {
			return r, err
		}
	}
	if err := b.node.Start(b.ctx); err != nil {
		return r, err
	}
	client, err := b.node.Client()
	if err != nil {
		return r, err
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		reply, err := client.ListFolders(b.ctx, &adminpb.ListFoldersRequest{})
		if err != nil {
			return r, err
		}
		f := reply.GetFolders()[0]
		if f.GetScanned() != nil {
			if n := f.GetWaiting(); n != int64(b.cfg.Tree) {
				return r, fault.New("find files", fault.Internal, "%d of %d were found", n, b.cfg.Tree)
			}
			r.Found = f.GetTook().AsDuration().Seconds()
			break
		}
		if time.Since(began) > 5*time.Minute {
			return r, fault.New("find files", fault.Deadline, "they are not found")
		}
	}
	if u, err = usageOf(b.node.PID()); err != nil {
		return r, err
	}
	r.Files, r.CPU, r.MaxRSS = b.cfg.Tree, u.CPU(), float64(u.PeakRSS)/mib
	return r, nil
}
