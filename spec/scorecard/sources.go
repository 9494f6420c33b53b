package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

var sourceChanges = check{
	id: 10, title: "a source is truncated, appended to, overwritten, replaced or deleted while it is sent: an error, or a file that is one version of it and no other",
	unit: "mixtures", n: counts{reduced: 5, full: 500},
	mutant: "the source is not looked at again at its end",
	edits:  []edit{{"sideeffect/filesource.go", "	case now.size != s.opened.size:", "	case mutant(\"10\"):\n	case now.size != s.opened.size:"}},
	run:    runSourceChanges,
}

var sourceReplaced = check{
	id: 11, title: "the sender is killed, and its source replaced by another file of the same size and time before it is back: from the first byte, or an error; never half of each",
	unit: "splices", n: counts{reduced: 4, full: 200},
	mutant: "the same size is the same source",
	edits: []edit{
		{"sideeffect/version.go", "return Version{\n\t\tdev:", "if mutant(\"11\") {\n\t\treturn Version{size: st.Size}\n\t}\n\treturn Version{\n\t\tdev:"},
		{"sideeffect/prefix.go", "if root != p.Root {", `if !mutant("11") && root != p.Root {`},
	},
	run: runSourceReplaced,
}

// Sizes of sources that change, and how fast they are sent: slow enough that a
// change comes in the middle.
const (
	sourceSize  = 8 * mib
	sourceEvery = 512 * flow.KiB
	sourceRate  = `bandwidth = "32MiB/s"`
)

// changes are what is done to the source, and which content it has then; nil:
// none.
var changes = []struct {
	name string
	do   func(path string, other []byte) error
	then func(old, other []byte) []byte
}{
	{"truncated", func(path string, _ []byte) error { return os.Truncate(path, sourceSize/8) }, func(old, _ []byte) []byte { return old[:sourceSize/8] }},
	{"appended to", appendTo, func(old, other []byte) []byte { return append(old[:len(old):len(old)], other[:mib]...) }},
	{"overwritten", overwrite, func(_, other []byte) []byte { return other }},
	{"replaced", replace, func(_, other []byte) []byte { return other }},
	{"deleted", func(path string, _ []byte) error { return os.Remove(path) }, func(_, _ []byte) []byte { return nil }},
}

func appendTo(path string, other []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(other[:mib])
	return errors.Join(err, f.Close())
}

func overwrite(path string, other []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(other, 0)
	return errors.Join(err, f.Close())
}

func replace(path string, other []byte) error {
	if err := os.WriteFile(path+".new", other, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func runSourceChanges(ctx context.Context, j *job) (result, error) {
	d, err := newDuo(ctx, j.dir, duoSettings{every: sourceEvery, window: 256 * flow.KiB, node: []string{sourceRate}})
	if err != nil {
		return result{}, err
	}
	var w note
	mixtures, asOld, asNew, failed := 0, 0, 0, 0
	for i := range j.n {
		c := changes[i%len(changes)]
		old, other := content(j.rnd, sourceSize), content(j.rnd, sourceSize)
		name := fmt.Sprint("file", i)
		source, target := filepath.Join(d.a.Root, name), filepath.Join(d.b.Root, name)
		if err = os.WriteFile(source, old, 0o644); err != nil {
			break
		}
		var at *nodetest.Node
		var id string
		if at, id, err = d.toB(ctx, i/len(changes), name); err != nil {
			break
		}
		if err = d.arrived(ctx, at, id, 1+j.rnd.Int64N(sourceSize/2)); err != nil {
			break
		}
		if err = c.do(source, other); err != nil {
			break
		}
		ended := d.finish(ctx, at, id)
		switch {
		case ended != nil && c.then(old, other) != nil:
			failed++
			w.add("%s: it has not come through: %v", c.name, ended)
		case ended != nil:
			failed++
			if _, err := os.Stat(target); err == nil {
				w.add("%s: it has failed, and there is a file: %v", c.name, ended)
			}
		case whole(target, old):
			asOld++
		case whole(target, c.then(old, other)):
			asNew++
		default:
			mixtures++
			same, size, _ := prefix(target, old)
			w.add("%s: the file of %d bytes is as it was before up to %d, and is no version of the source", c.name, size, same)
		}
		err = errors.Join(remove(source), remove(target))
	}
	if err = errors.Join(err, d.close()); err != nil {
		return result{}, err
	}
	return w.result(float64(mixtures), "%d as before the change, %d as after it, %d failed", asOld, asNew, failed), nil
}

// whole reports whether a file is the content.
func whole(path string, content []byte) bool {
	same, size, err := prefix(path, content)
	return err == nil && content != nil && same == size && size == int64(len(content))
}

// remove is os.Remove of what may be gone.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Wrap("remove file", path, err)
	}
	return nil
}

func runSourceReplaced(ctx context.Context, j *job) (result, error) {
	d, err := newDuo(ctx, j.dir, duoSettings{every: sourceEvery, window: 256 * flow.KiB, node: []string{sourceRate}})
	if err != nil {
		return result{}, err
	}
	var w note
	var n replacedCounts
	for i := 0; i < j.n && err == nil; i++ {
		err = d.replaced(ctx, j, i, &n, &w)
	}
	if err = errors.Join(err, d.close()); err != nil {
		return result{}, err
	}
	return w.result(float64(n.splices), "%d replaced, in place and by another inode in turn; %d had come whole before the kill", j.n, n.whole), nil
}

// replacedCounts are files that are half of each source, and those that are the old one from the
// first byte to the last: the kill came too late for them.
type replacedCounts struct{ splices, whole int }

// replaced is one transfer whose sender is killed and has another source afterwards.
func (d *duo) replaced(ctx context.Context, j *job, i int, n *replacedCounts, w *note) error {
	old, other := content(j.rnd, sourceSize), content(j.rnd, sourceSize)
	name := fmt.Sprint("file", i)
	source, target := filepath.Join(d.a.Root, name), filepath.Join(d.b.Root, name)
	if err := os.WriteFile(source, old, 0o644); err != nil {
		return err
	}
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(source, then, then); err != nil {
		return err
	}
	at, id, err := d.toB(ctx, i/2, name)
	if err == nil {
		err = d.arrived(ctx, at, id, 1+j.rnd.Int64N(sourceSize/2))
	}
	if err != nil {
		return err
	}
	d.a.Kill()
	how := []func(string, []byte) error{overwrite, replace}[i%2]
	if err := errors.Join(how(source, other), os.Chtimes(source, then, then), d.a.Start(ctx)); err != nil {
		return err
	}
	err = d.finish(ctx, at, id)
	switch {
	case err != nil:
		w.add("transfer %d has not come through: %v", i, err)
	case whole(target, old):
		n.whole++
	case !whole(target, other):
		n.splices++
		same, size, _ := prefix(target, old)
		w.add("transfer %d: the file of %d bytes is the old source up to %d, and is not the new one", i, size, same)
	}
	return errors.Join(remove(source), remove(target))
}
