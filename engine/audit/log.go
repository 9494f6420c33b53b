package audit

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/pannier/pannier/spec/fault"
)

// Defaults and limits.
const (
	DefaultRotate     = 64 << 20
	DefaultCheckpoint = 1000
	checkpointAfter   = time.Minute      // of the first record that no checkpoint covers
	syncAfter         = time.Second      // of a record, unless Config.Each
	mostWait          = 30 * time.Second // of Record for the disk, which is said not to answer then
	mostWaiting       = 10_000           // records that wait for the disk; more are dropped, and counted in one
	dirMode           = 0o700
)

// Config is what a log is made of.
type Config struct {
	Dir        string // of the log; made if it is not there
	Node       string
	Each       bool   // Record returns when the record is durable. Else within syncAfter
	Rotate     int64  // bytes of a file before the next is begun; 0: DefaultRotate
	Checkpoint int    // records between checkpoints; 0: DefaultCheckpoint
	Copy       string // absolute path of a second file for the checkpoint, best on another machine's disk; empty: none
	Log        *slog.Logger
	Written    func(error) // told of each record that is written, and of each write that has failed; nil: nobody
}

// Log is an audit log that is open. One process at a time has it, as it has the state
// directory. Its methods may be called at the same time.
type Log struct {
	cfg    Config
	signer note.Signer
	quit   chan struct{}
	over   chan struct{}
	kick   chan struct{}
	copies *copies // nil: there is no second place

	mu      sync.Mutex
	waiting []waiting
	dropped int
	failed  error // of the last write; nil: it was good
	closed  bool
	begun   time.Time // of what the writer does; zero: it waits

	// The writer's alone.
	f       *os.File
	number  int
	size    int64 // of f: what is good of it
	last    Record
	broken  error     // a sync has failed
	unsure  time.Time // since when records are not synced; zero: all are
	covered uint64    // Seq of the last checkpoint
	signed  string    // hash of that record, as a checkpoint says that was here before
	other   bool      // the record has another
	open    time.Time // since when there are records that no checkpoint covers
}

// waiting is an entry that is to be written.
type waiting struct {
	entry Entry
	at    time.Time
	done  chan error // nil: nobody waits
}

// Open opens or makes a log. What a crash has left half written at its end is cut off, and
// a record says so.
func Open(cfg Config) (*Log, error) {
	const op = "open audit log"
	if cfg.Rotate <= 0 {
		cfg.Rotate = DefaultRotate
	}
	if cfg.Checkpoint <= 0 {
		cfg.Checkpoint = DefaultCheckpoint
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Written == nil {
		cfg.Written = func(error) {}
	}
	if err := os.MkdirAll(cfg.Dir, dirMode); err != nil {
		return nil, fault.Wrap(op, cfg.Dir, err)
	}
	l := &Log{cfg: cfg, quit: make(chan struct{}), over: make(chan struct{}), kick: make(chan struct{}, 1)}
	var err error
	if l.signer, err = signerOf(cfg.Dir, cfg.Node); err != nil {
		return nil, err
	}
	cut, err := l.resume()
	if err != nil {
		return nil, err
	}
	if cut > 0 {
		l.queue(Entry{Who: "the node", Do: "recover", Detail: fmt.Sprintf("%d bytes at the end were no whole record, and have been cut off", cut)}, nil)
	}
	if why := l.unproven(); why != "" {
		cfg.Log.Warn("somebody may have changed the audit log", "found", why)
		l.queue(Entry{Who: "the node", Do: "missing", Detail: why}, nil)
		l.covered = 0
	}
	if cfg.Copy != "" {
		l.copies = newCopies(cfg.Copy, cfg.Log)
	}
	go l.write()
	return l, nil
}

// resume finds the end of the log and opens its last file.
func (l *Log) resume() (cut int64, err error) {
	const op = "open audit log"
	files, err := filesOf(l.cfg.Dir)
	if err != nil {
		return 0, fault.Wrap(op, l.cfg.Dir, err)
	}
	l.last.Hash, l.number = zeros, 1
	if c, err := os.ReadFile(filepath.Join(l.cfg.Dir, checkpointFile)); err == nil {
		if key, err := os.ReadFile(filepath.Join(l.cfg.Dir, publicFile)); err == nil {
			if c, err := readCheckpoint(c, string(key)); err == nil {
				l.covered, l.signed = c.Seq, c.Hash
			}
		}
	}
	for i := len(files) - 1; i >= 0 && l.last.Seq == 0; i-- { // the last may be empty
		good := int64(0)
		var bad error
		linesOf(files[i], func(a at, err error) bool {
			if err != nil {
				bad = err
				return false
			}
			r, why := parse(a.text)
			if a.whole && why != "" {
				bad = fault.New(op, fault.Corrupt, "%s, line %d: %s", files[i], a.line, why).Advise("pannier audit verify says where; move the directory away to begin a new log")
				return false
			}
			if a.whole {
				l.last, good = r, a.offset+int64(len(a.text))+1
			}
			return true
		})
		if bad != nil {
			return 0, bad
		}
		if i == len(files)-1 {
			l.number, l.size = numberOf(files[i]), good
			if fi, err := os.Stat(files[i]); err == nil {
				cut = fi.Size() - good
			}
		}
	}
	l.compare(files)
	if l.last.Seq > l.covered {
		l.open = time.Now()
	}
	return cut, l.reopen()
}

// compare looks for the record that the checkpoint has signed, from the last file on.
func (l *Log) compare(files []string) {
	for i := len(files) - 1; i >= 0 && l.covered > 0; i-- {
		first, found := uint64(0), false
		linesOf(files[i], func(a at, err error) bool {
			r, why := parse(a.text)
			if err != nil || why != "" {
				return err == nil
			}
			if first == 0 {
				first = r.Seq
			}
			if r.Seq == l.covered {
				found, l.other = true, r.Hash != l.signed
			}
			return r.Seq < l.covered
		})
		if found || first > 0 && first <= l.covered {
			return
		}
	}
}

// unproven says what a log that is resumed lacks, which no crash takes away: a new checkpoint
// must not hide it.
func (l *Log) unproven() string {
	switch {
	case l.last.Seq > 0 && l.covered == 0:
		return fmt.Sprintf("records up to %d had no checkpoint of this log's key", l.last.Seq)
	case l.other:
		return fmt.Sprintf("record %d was not the one that had been signed", l.covered)
	case l.last.Seq < l.covered:
		return fmt.Sprintf("the checkpoint knows of %d records, and there were %d", l.covered, l.last.Seq)
	}
	return ""
}

// reopen opens the present file, and cuts off what is no good of it.
func (l *Log) reopen() error {
	const op = "open audit log"
	path := filepath.Join(l.cfg.Dir, fileName(l.number))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fault.Wrap(op, path, err)
	}
	if err = f.Truncate(l.size); err == nil {
		_, err = f.Seek(l.size, io.SeekStart)
	}
	if err == nil {
		err = syncDir(l.cfg.Dir)
	}
	if err != nil {
		f.Close()
		return fault.Wrap(op, path, err)
	}
	l.f = f
	return nil
}

// Ready says why the log cannot be written just now; nil: it can.
func (l *Log) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.begun.IsZero() && time.Since(l.begun) >= mostWait {
		return fault.New("write audit log", fault.IO, "the disk has not answered since %s", l.begun.UTC().Format(time.RFC3339))
	}
	return l.failed
}

// busy notes when the writer began what it does; zero: it has ended.
func (l *Log) busy(since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun = since
}

// Record notes an entry. With Config.Each it waits until it is durable, mostWait is over, or ctx ends; else it
// waits for nothing.
func (l *Log) Record(ctx context.Context, e Entry) error {
	if !l.cfg.Each {
		l.queue(e, nil)
		return nil
	}
	done := make(chan error, 1)
	l.queue(e, done)
	late := time.NewTimer(mostWait)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		return fault.New("write audit log", fault.Deadline, "the disk has not answered for %v; the record waits for it", mostWait)
	case <-ctx.Done():
		return fault.Wrap("write audit log", "", context.Cause(ctx))
	}
}

func (l *Log) queue(e Entry, done chan error) {
	e = Entry{Who: clip(e.Who), Do: clip(e.Do), On: clip(e.On), Detail: clip(e.Detail), Error: clip(e.Error)}
	l.mu.Lock()
	var err error
	switch {
	case l.closed:
		err = fault.New("write audit log", fault.Draining, "it is closed")
	case len(l.waiting) >= mostWaiting:
		l.dropped++
		err = l.failed
		if err == nil {
			err = fault.New("write audit log", fault.Overloaded, "%d records wait to be written", mostWaiting)
		}
	default:
		l.waiting = append(l.waiting, waiting{e, time.Now(), done})
		done = nil
	}
	l.mu.Unlock()
	if done != nil {
		done <- err
	}
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// Close writes what waits and a last checkpoint. Deadline: the disk has not answered for mostWait;
// what waits then is not there.
func (l *Log) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if first {
		close(l.quit)
	}
	late := time.NewTimer(mostWait)
	defer late.Stop()
	select {
	case <-l.over:
		return l.Ready()
	case <-late.C:
		return fault.New("close audit log", fault.Deadline, "the disk has not answered for %v", mostWait)
	}
}

// write is the one goroutine that writes; Open starts it, Close ends it.
func (l *Log) write() {
	defer close(l.over)
	tick := time.NewTicker(syncAfter)
	defer tick.Stop()
	for {
		select {
		case <-l.kick:
			if l.Ready() != nil {
				l.refuse() // until the next tick
				continue
			}
		case <-tick.C:
		case <-l.quit:
			_ = l.flush(true)
			if l.f != nil {
				_ = l.f.Close()
			}
			if l.copies != nil {
				l.copies.close()
			}
			return
		}
		_ = l.flush(false)
	}
}

// refuse answers those who wait for a log that cannot be written; what they have said waits
// on.
func (l *Log) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.waiting {
		if w := &l.waiting[i]; w.done != nil {
			w.done <- l.failed
			w.done = nil
		}
	}
}

// flush writes what waits, syncs it when that is due, and makes a checkpoint when one is.
func (l *Log) flush(end bool) error {
	l.busy(time.Now())
	defer l.busy(time.Time{})
	l.mu.Lock()
	batch, dropped := slices.Clip(l.waiting), l.dropped // what comes meanwhile is behind it, and is not written over
	l.mu.Unlock()
	if dropped > 0 && len(batch) < mostWaiting {
		batch = append(batch, waiting{entry: Entry{Who: "the node", Do: "dropped", Detail: fmt.Sprintf("%d records, because the log could not be written", dropped)}, at: time.Now()})
	} else {
		dropped = 0
	}
	err := l.broken
	if err == nil {
		err = l.append(batch)
	}
	if err != nil {
		l.settle(nil, 0, err)
		return err
	}
	if !l.unsure.IsZero() && (l.cfg.Each || end || time.Since(l.unsure) >= syncAfter) {
		err = l.sync()
	}
	if err == nil && l.last.Seq > l.covered && (end || l.covered == 0 || l.last.Seq-l.covered >= uint64(l.cfg.Checkpoint) || time.Since(l.open) >= checkpointAfter) {
		err = l.checkpoint()
	}
	l.settle(batch, dropped, err)
	return err
}

// settle tells how a flush went; what is in batch is written.
func (l *Log) settle(batch []waiting, dropped int, err error) {
	l.mu.Lock()
	if (err != nil) != (l.failed != nil) {
		if err != nil {
			l.cfg.Log.Error("the audit log cannot be written; it is tried again", "error", err)
		} else {
			l.cfg.Log.Info("the audit log is written again")
		}
	}
	l.failed = err
	l.waiting = l.waiting[len(batch)-min(dropped, 1):]
	l.dropped -= dropped
	l.mu.Unlock()
	if err != nil {
		l.cfg.Written(err)
		l.refuse()
	}
	for _, w := range batch {
		l.cfg.Written(err)
		if w.done != nil {
			w.done <- err
		}
	}
}

// sync makes what was written durable. When that fails nobody knows what of it is on disk,
// and nothing more is written: the next process finds out.
func (l *Log) sync() error {
	if err := l.f.Sync(); err != nil {
		l.broken = fault.Wrap("write audit log", l.f.Name(), err)
		return l.broken
	}
	l.unsure = time.Time{}
	return nil
}

// append writes records behind the last one, all or none of them.
func (l *Log) append(batch []waiting) error {
	if len(batch) == 0 {
		return nil
	}
	if l.f == nil {
		if err := l.reopen(); err != nil {
			return err
		}
	}
	if l.size >= l.cfg.Rotate {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	last := l.last
	var buf []byte
	for _, w := range batch {
		r := Record{Seq: last.Seq + 1, Time: w.at.UTC(), Prev: last.Hash, Who: w.entry.Who, Do: w.entry.Do, On: w.entry.On, Detail: w.entry.Detail, Error: w.entry.Error}
		line, _, err := r.line()
		if err != nil {
			return fault.Wrap("write audit log", "", err)
		}
		buf, last = append(append(buf, line...), '\n'), r
	}
	if _, err := l.f.Write(buf); err != nil {
		path := l.f.Name()
		_ = l.f.Close()
		l.f = nil // opened again, it is cut to what is good
		return fault.Wrap("write audit log", path, err)
	}
	l.size += int64(len(buf))
	l.last = last
	if l.unsure.IsZero() {
		l.unsure = time.Now()
	}
	if l.open.IsZero() {
		l.open = time.Now()
	}
	return nil
}

// rotate goes on in a new file. The old one is synced first.
func (l *Log) rotate() error {
	if err := l.sync(); err != nil {
		return err
	}
	_ = l.f.Close()
	l.f = nil
	l.number, l.size = l.number+1, 0
	return l.reopen()
}

// checkpoint signs how far the log has come; what it covers is synced first.
func (l *Log) checkpoint() error {
	if !l.unsure.IsZero() {
		if err := l.sync(); err != nil {
			return err
		}
	}
	c := Checkpoint{Node: l.cfg.Node, Seq: l.last.Seq, Hash: l.last.Hash, Time: time.Now()}
	msg, err := note.Sign(&note.Note{Text: c.text()}, l.signer)
	if err != nil {
		return fault.Wrap("sign checkpoint", "", err)
	}
	if err := replace(filepath.Join(l.cfg.Dir, checkpointFile), msg, 0o644); err != nil {
		return err
	}
	if l.copies != nil {
		l.copies.put(msg)
	}
	l.covered, l.open = c.Seq, time.Time{}
	return nil
}

// Note is Record without waiting, whatever Config.Each says.
func (l *Log) Note(e Entry) { l.queue(e, nil) }

// Admits refuses, as the error that the disk has given, what has to be recorded and cannot
// be: with Config.Each, while the log cannot be written.
func (l *Log) Admits() error {
	if !l.cfg.Each {
		return nil
	}
	return fault.Wrap("record the order, without which it is refused", "", l.Ready())
}
