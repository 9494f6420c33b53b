package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// disk is what a case is held against: the same files, as many at a time, written by
// one process into one directory, each synced, renamed, and its directory synced.
// That much every durable transfer does, whatever else it does.
func (e *engineBench) disk(c engineCase) (r EngineResult, err error) {
	dir := filepath.Join(e.b.Root, "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return r, err
	}
	content := make([]byte, c.bytes)
	before, err := readUsage()
	if err != nil {
		return r, err
	}
	times := make([]time.Duration, c.count)
	began := time.Now()
	err = e.each(c.count, c.inFlight, func(i int) error {
		at := time.Now()
		err := writeDurably(dir, fmt.Sprintf("f%d", i), content)
		times[i] = time.Since(at)
		return err
	})
	took := time.Since(began)
	if err != nil {
		return r, err
	}
	after, err := readUsage()
	r.figures(c.count, c.bytes, took, after.since(before).CPU(), after.PeakRSS)
	l := summarize(times)
	r.P50, r.P99 = l.P50/1000, l.P99/1000
	return r, err
}

// writeDurably makes a file that survives a power cut, name included.
func writeDurably(dir, name string, content []byte) error {
	temp := filepath.Join(dir, "."+name)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
