package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pannier/pannier/spec/fault"
)

// Finding is what Verify has found wrong first. What is behind it proves nothing.
type Finding struct {
	File string
	Line int    // from 1; 0: the log ends before it
	Seq  uint64 // of the record that is not as it was written; 0: it is no record that is missing
	What string
}

func (f *Finding) Error() string {
	if f.Seq == 0 {
		return f.File + ": " + f.What
	}
	where := fmt.Sprintf("record %d", f.Seq)
	if f.Line > 0 {
		where += fmt.Sprintf(" (%s, line %d)", f.File, f.Line)
	}
	return where + ": " + f.What
}

// Report is what Verify has looked at.
type Report struct {
	First, Last uint64     // records; First is not 1 when older files have been put away
	Checkpoint  Checkpoint // the one that was compared
	Finding     *Finding   // nil: all is as it was written
}

// Verify reads a log without changing it. key is the verifier's key, as audit.pub has it;
// empty: that of the directory, which whoever can write there can exchange, too. checkpoint
// is the file of one that was kept elsewhere; empty: that of the directory. An error is that
// something could not be read.
func Verify(dir, key, checkpoint string) (r Report, err error) {
	const op = "verify audit log"
	left, err := remains(dir)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return r, fault.New(op, fault.Invalid, "%s is a file: the directory that it is in has the log, with its key, %s", dir, publicFile)
	case err != nil:
		return r, fault.Wrap(op, dir, err)
	case len(left) == 0 && checkpoint == "":
		return r, fault.New(op, fault.NotFound, "%s has no audit log: [audit] in the configuration switches it on", dir)
	}
	if key == "" {
		path := filepath.Join(dir, publicFile)
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			r.Finding = &Finding{File: path, What: "the log's key has been taken away, and without one nothing can be verified: give the one that was kept elsewhere"}
			return r, nil
		}
		if err != nil {
			return r, fault.Wrap(op, dir, err)
		}
		key = string(b)
	}
	own := checkpoint == ""
	if own {
		checkpoint = filepath.Join(dir, checkpointFile)
	}
	signed, err := os.ReadFile(checkpoint)
	switch {
	case own && os.IsNotExist(err): // walk says it
	case err != nil:
		return r, fault.Wrap(op, checkpoint, err)
	default:
		if r.Checkpoint, err = readCheckpoint(signed, key); err != nil {
			return r, err
		}
	}
	return r, r.walk(dir)
}

// remains are the files of a log that a directory has, in the order of their names; none without
// the directory.
func remains(dir string) (names []string, err error) {
	all, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range all {
		name := e.Name()
		if is, _ := filepath.Match(filePattern, name); is || name == keyFile || name == publicFile || name == checkpointFile {
			names = append(names, name)
		}
	}
	return names, err
}

// walk compares each record with the one before, and with the checkpoint.
func (r *Report) walk(dir string) error {
	files, err := filesOf(dir)
	if err != nil {
		return fault.Wrap("verify audit log", dir, err)
	}
	if len(files) == 0 {
		r.Finding = &Finding{Seq: 1, What: "no record is there, and of a log there is more"}
		if r.Checkpoint.Seq > 0 {
			r.Finding.What = fmt.Sprintf("no record is there, and the checkpoint knows of %d", r.Checkpoint.Seq)
		}
		return nil
	}
	older := numberOf(files[0]) > 1 // than these have been put away
	prev, before := zeros, at{}
	for a, err := range lines(dir) {
		if err != nil {
			return err
		}
		want := r.Last + 1
		found := func(seq uint64, of at, what string) {
			r.Finding = &Finding{File: of.file, Line: of.line, Seq: seq, What: what}
		}
		rec, why := parse(a.text)
		if r.Last == 0 && why == "" && older {
			want, prev = rec.Seq, rec.Prev
			r.First = rec.Seq
		}
		switch {
		case !a.whole:
			found(want, a, "it is cut off")
		case why != "":
			found(want, a, why)
		case r.Last == 0 && r.Checkpoint.Seq > 0 && rec.Seq > r.Checkpoint.Seq && (rec.Seq != r.Checkpoint.Seq+1 || rec.Prev != r.Checkpoint.Hash):
			found(want, a, fmt.Sprintf("it is the first that is here, and the checkpoint is of record %d: nothing that was signed leads to it", r.Checkpoint.Seq))
		case rec.Seq != want:
			found(want, a, fmt.Sprintf("record %d stands in its place", rec.Seq))
		case rec.Prev != prev && r.Last == 0:
			found(want, a, "it is the first, and says that there was one before")
		case rec.Prev != prev:
			found(r.Last, before, "it has been replaced: the next one knows it by another hash")
		case rec.Seq == r.Checkpoint.Seq && rec.Hash != r.Checkpoint.Hash:
			found(want, a, "it has been replaced: the checkpoint knows it by another hash")
		}
		if r.Finding != nil {
			return nil
		}
		if r.First == 0 {
			r.First = rec.Seq
		}
		r.Last, prev, before = rec.Seq, rec.Hash, a
	}
	if r.Checkpoint.Seq == 0 {
		r.Finding = &Finding{Seq: r.Last + 1, What: "it may have been cut off: there is no checkpoint, and one is signed with the first record"}
	} else if r.Last < r.Checkpoint.Seq {
		r.Finding = &Finding{Seq: r.Last + 1, What: fmt.Sprintf("the log ends before it; the checkpoint knows of %d", r.Checkpoint.Seq)}
	}
	return nil
}

// Read yields the records in order, and says of none whether it is as it was written. One
// that cannot be read is skipped.
func Read(dir string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for a, err := range lines(dir) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			if r, why := parse(a.text); why != "it is no record" && !yield(r, nil) {
				return
			}
		}
	}
}
