package node

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine/answers"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/spec/fault"
)

// TestFolderHung: a folder whose file system does not answer holds up nobody but itself: not the list,
// not another folder, not a reload or the node's end. A newer one of its name begins after it.
func TestFolderHung(t *testing.T) {
	notes, err := folder.OpenNotes(filepath.Join(t.TempDir(), "folders.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer notes.Close()
	f := &folders{node: &Node{log: slog.New(slog.NewTextHandler(t.Output(), nil))}, notes: notes, all: map[string]*watched{}, stuck: map[string]*watched{}}
	cfg := &config.Config{Folders: map[string]folder.Folder{}}
	for _, name := range []string{"hung", "well"} {
		cfg.Folders[name] = folder.Folder{Name: name, Rule: "r", Root: t.TempDir(), Partners: []string{"b"}, Stable: time.Second, Interval: time.Hour, Open: 1}
	}
	f.change(cfg)
	let := make(chan struct{})
	hung := f.all["hung"]
	hung.stop = func() { <-let; hung.watch.Stop() }
	soon := func(what string, do func()) {
		t.Helper()
		over := make(chan struct{})
		go func() { do(); close(over) }()
		select {
		case <-over:
		case <-time.After(time.Minute):
			t.Fatal("it hangs: ", what)
		}
	}
	for _, name := range []string{"hung", "well"} {
		is := cfg.Folders[name]
		is.Open = 2
		cfg.Folders[name] = is
	}
	listed := make(chan int, 1)
	go func() { // beside the change that waits
		for len(f.List()) > 0 {
			time.Sleep(time.Millisecond)
		}
		listed <- 0
	}()
	soon("the change", func() { f.change(cfg) })
	soon("the list", func() {
		if all := f.List(); len(all) != 2 || all[0].Trouble == "" || all[1].Trouble != "" || all[1].Folder.Open != 2 {
			t.Errorf("%+v", all)
		}
	})
	if _, err := f.Find("hung"); fault.KindOf(err) != fault.Overloaded {
		t.Error(err)
	}
	if w, err := f.Find("well"); err != nil {
		t.Error(err)
	} else {
		soon("another folder", func() { err = w.Scan(context.Background()) })
		if err != nil {
			t.Error(err)
		}
	}
	before := runtime.NumGoroutine()
	soon("other changes", func() {
		for range 50 {
			f.change(cfg)
		}
	})
	if n := runtime.NumGoroutine(); n > before+25 {
		t.Errorf("%d goroutines wait after 50 changes, %d before", n, before)
	}
	close(let)
	soon("its newer self", func() {
		for s, _ := f.Show("hung"); s.Trouble != "" || s.Folder.Open != 2; s, _ = f.Show("hung") {
			time.Sleep(time.Millisecond)
		}
	})
	let2 := make(chan struct{})
	f.mu.Lock()
	again := f.all["hung"]
	again.stop = func() { <-let2; again.watch.Stop() }
	f.mu.Unlock()
	soon("the end", f.end)
	close(let2)
	<-again.over
	soon("the list at the end", func() { <-listed })
}

// TestReloadHung: a reload waits a while for directories whose file systems do not answer, all of them
// together, and tells of their folders. It is no reason to keep the old configuration.
func TestReloadHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		n := &Node{missing: answers.To(func(dir string) string {
			if strings.HasPrefix(dir, "/hung") {
				<-goOn
			}
			return map[string]string{"/gone": "it has gone"}[dir]
		})}
		here := map[string]folder.Folder{"a": {Root: "/gone"}, "b": {Root: "/hung"}}
		n.present.Store(&present{cfg: &config.Config{Folders: here}})
		cfg := &config.Config{Folders: maps.Clone(here)}
		cfg.Folders["c"], cfg.Folders["d"] = folder.Folder{Root: "/hung2"}, folder.Folder{Root: "/well"}
		wrong, began := cfg.Wrong(), time.Now()
		problems := n.tryFolders(cfg, wrong)
		want := []string{
			"folder a finds nothing: it has gone",
			"folder b finds nothing: the file system of /hung does not answer",
			"folder c finds nothing: the file system of /hung2 does not answer",
		}
		if !slices.Equal(problems, want) || wrong.Err() != nil || time.Since(began) != stopLimit {
			t.Errorf("after %v: %q, %v; want %q", time.Since(began), problems, wrong.Err(), want)
		}
		close(goOn)
	})
}
