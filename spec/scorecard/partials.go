package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pannier/pannier/flow"
)

var partialDamaged = check{
	id: 6, title: "the receiver is killed, and the last 1 to 4 blocks of what it has are damaged, cleared or cut off before it is back: found, fetched again, identical",
	unit: "not found", n: counts{reduced: 6, full: 100, control: 4},
	mutant: "what the state file says is believed",
	edits: []edit{
		{"sideeffect/partial.go", "if err := s.checkLast(f); err != nil {", `if err := s.checkLast(f); err != nil && !mutant("6") {`},
		{"sideeffect/partial.go", "if check == CheckAll {", `if check == CheckAll && !mutant("6") {`},
		{"sideeffect/keeper.go", "if err := st.checkLast(s.file); err != nil {", `if err := st.checkLast(s.file); err != nil && !mutant("6") {`},
	},
	run: runPartialDamaged,
}

func runPartialDamaged(ctx context.Context, j *job) (result, error) {
	const block = 256 * flow.KiB
	d, err := newDuo(ctx, j.dir, duoSettings{every: sourceEvery, window: block, node: []string{sourceRate}})
	if err != nil {
		return result{}, err
	}
	var w note
	missed := 0
	var read int64
	for i := 0; i < j.n && err == nil; i++ {
		err = func() error {
			old := content(j.rnd, sourceSize)
			name := fmt.Sprint("file", i)
			source, target := filepath.Join(d.a.Root, name), filepath.Join(d.b.Root, name)
			if err := os.WriteFile(source, old, 0o644); err != nil {
				return err
			}
			at, id, err := d.toB(ctx, i, name)
			if err == nil {
				err = d.arrived(ctx, at, id, 4*block+j.rnd.Int64N(sourceSize/2))
			}
			if err != nil {
				return err
			}
			d.b.Kill()
			r, err := recordOf(ctx, d.b, id)
			if err != nil {
				return err
			}
			// The block that is damaged is one of the last four that are recorded as safe.
			from := r.Rank - int64(1+j.rnd.IntN(4))*block
			how, err := damagePartial(partialOf(d.b.Root, name), from, from+j.rnd.Int64N(block), block, i)
			if err != nil {
				return err
			}
			said := sizeOf(d.logs[1])
			if err := d.b.Start(ctx); err != nil {
				return err
			}
			ended := d.finish(ctx, at, id)
			all, err := moves(d.logs[1], id, said)
			if err != nil {
				return err
			}
			switch {
			case ended != nil:
				w.add("%s: %v", how, ended)
			case !whole(target, old):
				missed++
				w.add("%s at %d of %d: the file is wrong, and was called DONE", how, from, r.Rank)
			case len(all) == 0 || all[0].from > from:
				missed++
				w.add("%s at %d: it went on from %v", how, from, all)
			}
			read += r.Rank
			return errors.Join(remove(source), remove(target))
		}()
	}
	if err = errors.Join(err, d.close()); err != nil {
		return result{}, err
	}
	return w.result(float64(missed), "%d damaged, %.0f MiB read again to find it", j.n, float64(read)/mib), nil
}

// damagePartial does something to a file: flips bits of the byte at pos, clears
// the block at from, or cuts the file there.
func damagePartial(path string, from, pos, block int64, i int) (how string, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	switch i % 3 {
	case 0:
		b := make([]byte, 1)
		if _, err = f.ReadAt(b, pos); err == nil {
			b[0] ^= 0x10
			_, err = f.WriteAt(b, pos)
		}
		return "a byte damaged", err
	case 1:
		_, err = f.WriteAt(make([]byte, block), from)
		return "a block cleared", err
	}
	return "cut off", f.Truncate(from)
}

func sizeOf(f *os.File) int64 {
	fi, err := f.Stat()
	if err != nil {
		return 0
	}
	return fi.Size()
}
