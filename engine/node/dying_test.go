package node_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/ftp"
	pluginhost "github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/sftp"
)

// TestMain makes the test binary a node too, one that kills itself where it is told, and
// the plugins of nodes.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == pluginhost.EntryArgument:
		switch os.Args[2] {
		case "dir":
			plugins.Serve(dir.Driver{})
		case "ftp":
			plugins.Serve(ftp.Driver{}, pluginhost.Node)
		case "sftp":
			plugins.Serve(sftp.Driver{}, pluginhost.Node)
		case "deaf":
			plugins.Serve(deaf{}, pluginhost.Node)
		}
		os.Exit(0)
	case len(os.Args) == 4 && os.Args[1] == "serve":
		if err := serveDying(os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// serveDying runs the node of a file until it is told to end.
func serveDying(path string) error {
	nodetest.Tied()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	s, err := boltstore.Open(boltstore.Config{Path: node.StorePath(cfg.Node.State)})
	if err != nil {
		return err
	}
	defer s.Close()
	n, err := node.Open(ctx, cfg, node.Options{Store: &dying{Store: &stopping{Store: s, dir: filepath.Dir(path)}, dir: filepath.Dir(path)}, Output: os.Stderr, Bundled: []string{"dir", "ftp", "sftp"}})
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

// Moments of a task at which a node dies.
const (
	during = "during" // it is recorded that it has begun, and it runs
	before = "before" // it is done, and that is not recorded
	after  = "after"  // it is recorded that it is done
)

// doom is when a dying node kills itself: at a moment of the first task of a list of one end of a
// request of rule work. It is a file beside the configuration, and is gone when it has come true.
type doom struct {
	moment, side, list string
	sign               string // of during: what tells that the task runs
}

// Signs that a task runs.
const (
	atOnce     = "at once"    // none: it may be over already
	unfinished = "unfinished" // there is a file that is not finished
	running    = "running"    // there is a file of that name beside the configuration
)

func doomFile(dir string) string { return filepath.Join(dir, "doom") }

func (d doom) write(dir string) error {
	return os.WriteFile(doomFile(dir), []byte(strings.Join([]string{d.moment, d.side, d.list, d.sign}, "\n")), 0o600)
}

// dying is a store that kills its process, as SIGKILL does.
type dying struct {
	store.Store
	dir string
	mu  sync.Mutex // whoever dies keeps it: nothing is recorded between the doom's end and the process's
}

func (d *dying) doom() (doom, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	text, err := os.ReadFile(doomFile(d.dir))
	parts := strings.Split(string(text), "\n")
	if err != nil || len(parts) != 4 {
		return doom{}, false
	}
	return doom{parts[0], parts[1], parts[2], parts[3]}, true
}

// meant reports whether a record's next task is the one.
func (d doom) meant(r *lifecycle.Record) bool {
	key, ok := r.NextTask()
	return ok && r.Spec.Rule == "work" && r.Side.String() == d.side && key.List.String() == d.list && key.Index == 0
}

func (d *dying) Apply(ctx context.Context, ref store.Ref, now time.Time, events ...lifecycle.Event) (lifecycle.Record, error) {
	if has[lifecycle.EndTask](events) {
		if doom, ok := d.doom(); ok {
			if r, err := d.Store.Get(ctx, ref); err == nil && doom.meant(&r) {
				if doom.moment == after {
					if _, err := d.Store.Apply(ctx, ref, now, events...); err != nil {
						return lifecycle.Record{}, err
					}
				}
				d.die()
			}
		}
	}
	r, err := d.Store.Apply(ctx, ref, now, events...)
	if err == nil && has[lifecycle.BeginTask](events) {
		if doom, ok := d.doom(); ok && doom.moment == during && doom.meant(&r) {
			go d.dieAt(doom.sign)
		}
	}
	return r, err
}

func has[E lifecycle.Event](events []lifecycle.Event) bool {
	return slices.ContainsFunc(events, func(e lifecycle.Event) bool { _, ok := e.(E); return ok })
}

// dieAt waits for a sign. A task that is over before is at the moment before.
func (d *dying) dieAt(sign string) {
	for ; ; time.Sleep(50 * time.Microsecond) {
		seen := sign == atOnce
		if sign == running {
			_, err := os.Stat(filepath.Join(d.dir, running))
			seen = err == nil
		}
		if sign == unfinished {
			seen = len(leftovers(filepath.Join(d.dir, "files"))) > 0
		}
		if seen {
			d.die()
		}
	}
}

// die kills this process; nothing of it goes on.
func (d *dying) die() {
	d.mu.Lock()
	_ = os.Remove(doomFile(d.dir))
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {}
}

// leftovers are the unfinished files below a directory.
func leftovers(root string) (all []string) {
	_ = filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err == nil && strings.Contains(filepath.Base(name), ".pannier-") {
			all = append(all, name)
		}
		return nil
	})
	return all
}
