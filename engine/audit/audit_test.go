package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/spec/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func written(t *testing.T, cfg Config, n int) string {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "audit")
	}
	cfg.Node, cfg.Each = "hosta", true
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := l.Record(context.Background(), Entry{Who: "uid 1000", Do: "Submit", On: fmt.Sprint(i), Detail: "a\nb\"<\xff"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return cfg.Dir
}

func verified(t *testing.T, dir string) Report {
	t.Helper()
	r, err := Verify(dir, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestChain: records are one chain over restarts and files.
func TestChain(t *testing.T) {
	dir := written(t, Config{Rotate: 2000}, 30)
	written(t, Config{Dir: dir, Rotate: 2000}, 30)
	r := verified(t, dir)
	if r.Finding != nil || r.First != 1 || r.Last != 60 || r.Checkpoint.Seq != 60 || r.Checkpoint.Node != "hosta" {
		t.Errorf("%+v", r)
	}
	files, _ := filesOf(dir)
	if len(files) < 5 {
		t.Errorf("%d files", len(files))
	}
	n := 0
	for rec, err := range Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; rec.Seq != uint64(n) || rec.Detail != "a\nb\"<?" {
			t.Errorf("%+v", rec)
		}
	}
	if err := os.Remove(files[0]); err != nil { // put away
		t.Fatal(err)
	}
	if r := verified(t, dir); r.Finding != nil || r.First == 1 || r.Last != 60 {
		t.Errorf("without the first file: %+v", r)
	}
	if err := os.Remove(files[2]); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, dir); r.Finding == nil {
		t.Error("a file is missing, and nobody sees it")
	}
}

// TestForged: a log that is written anew with right hashes is found out by its checkpoint,
// and a checkpoint by its signature.
func TestForged(t *testing.T) {
	dir, forged := written(t, Config{}, 10), written(t, Config{}, 11)
	copyFile(t, filepath.Join(forged, fileName(1)), filepath.Join(dir, fileName(1)))
	if r := verified(t, dir); r.Finding == nil || r.Finding.Seq != 10 {
		t.Errorf("%+v", r.Finding)
	}
	copyFile(t, filepath.Join(forged, checkpointFile), filepath.Join(dir, checkpointFile))
	if _, err := Verify(dir, "", ""); !errors.Is(err, fault.Corrupt) {
		t.Errorf("another's checkpoint: %v", err)
	}
	key, err := os.ReadFile(filepath.Join(dir, publicFile))
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, filepath.Join(forged, publicFile), filepath.Join(dir, publicFile))
	if r := verified(t, dir); r.Finding != nil {
		t.Errorf("all is exchanged: %+v", r.Finding)
	}
	if _, err := Verify(dir, string(key), ""); !errors.Is(err, fault.Corrupt) {
		t.Errorf("all is exchanged but a key that was kept: %v", err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestKeptElsewhere: the copy of a checkpoint finds a log that was cut with its own.
func TestKeptElsewhere(t *testing.T) {
	kept := filepath.Join(t.TempDir(), "kept")
	dir := written(t, Config{Copy: kept}, 10)
	path := filepath.Join(dir, fileName(1))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.SplitAfter(b, []byte("\n"))
	if err := os.WriteFile(path, bytes.Join(all[:7], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, checkpointFile)); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, dir); r.Finding == nil || r.Finding.Seq != 8 {
		t.Errorf("without any checkpoint: %+v", r.Finding)
	}
	if _, err := Verify(dir, "", kept+".none"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a checkpoint that is not there: %v", err)
	}
	if r, err := Verify(dir, "", kept); err != nil || r.Finding == nil || r.Finding.Seq != 8 {
		t.Errorf("%+v, %v", r.Finding, err)
	}
}

// TestTakenAway: a log of which a part is gone, its key or its records or all but what was kept
// elsewhere, is not as it was written; where there is nothing of one, there is none.
func TestTakenAway(t *testing.T) {
	for _, c := range []struct {
		left       []string // of the directory
		key, kept  bool     // elsewhere
		says       string   // the finding; "": there is none
		kind       fault.Kind
		unfindable bool // the directory is gone, too
	}{
		{left: []string{fileName(1), checkpointFile, keyFile}, says: "the log's key has been taken away"},
		{left: []string{fileName(1)}, says: "the log's key has been taken away"},
		{left: []string{keyFile}, says: "the log's key has been taken away"},
		{left: []string{fileName(1), checkpointFile}, key: true},
		{left: []string{publicFile, checkpointFile}, says: "record 1: no record is there, and the checkpoint knows of 11"},
		{left: []string{publicFile, keyFile}, says: "record 1: no record is there, and of a log there is more"},
		{left: []string{keyFile}, key: true, says: "record 1: no record is there"},
		{key: true, kept: true, says: "record 1: no record is there, and the checkpoint knows of 11"},
		{key: true, kept: true, unfindable: true, says: "record 1: no record is there, and the checkpoint knows of 11"},
		{kept: true, says: "the log's key has been taken away"},
		{kind: fault.NotFound},
		{key: true, kind: fault.NotFound},
		{key: true, unfindable: true, kind: fault.NotFound},
	} {
		dir, key, kept := written(t, Config{}, 11), "", ""
		if c.key {
			b, err := os.ReadFile(filepath.Join(dir, publicFile))
			if err != nil {
				t.Fatal(err)
			}
			key = string(b)
		}
		if c.kept {
			kept = filepath.Join(t.TempDir(), "kept")
			copyFile(t, filepath.Join(dir, checkpointFile), kept)
		}
		for _, name := range []string{fileName(1), keyFile, publicFile, checkpointFile} {
			if !slices.Contains(c.left, name) {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if c.unfindable {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
		}
		r, err := Verify(dir, key, kept)
		found := ""
		if r.Finding != nil {
			found = r.Finding.Error()
		}
		if err != nil && fault.KindOf(err) != c.kind || err == nil && c.kind != 0 || (c.says == "") != (found == "") || !strings.Contains(found, c.says) {
			t.Errorf("%+v: %q, %v", c, found, err)
		}
	}
}

// TestNotHidden: the next process signs a log again that was cut, with its checkpoint or
// without, and says in it what was missing.
func TestNotHidden(t *testing.T) {
	for _, remove := range []bool{false, true} {
		dir := written(t, Config{}, 10)
		path := filepath.Join(dir, fileName(1))
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all := bytes.SplitAfter(b, []byte("\n"))
		if err := os.WriteFile(path, bytes.Join(all[:7], nil), 0o600); err != nil {
			t.Fatal(err)
		}
		if remove {
			if err := os.Remove(filepath.Join(dir, checkpointFile)); err != nil {
				t.Fatal(err)
			}
		}
		written(t, Config{Dir: dir}, 2)
		r := verified(t, dir)
		var missing []string
		for rec, err := range Read(dir) {
			if err == nil && rec.Do == "missing" {
				missing = append(missing, fmt.Sprint(rec.Seq, " ", rec.Detail))
			}
		}
		want := "8 the checkpoint knows of 10 records, and there were 7"
		if remove {
			want = "8 records up to 7 had no checkpoint of this log's key"
		}
		if r.Finding != nil || r.Last != 10 || r.Checkpoint.Seq != 10 || len(missing) != 1 || missing[0] != want {
			t.Errorf("%+v, %q", r, missing)
		}
	}
}

// TestForgedBehind: a log that begins behind the checkpoint, and that nothing signed leads to, is
// found, with the checkpoint of its own or one that was kept.
func TestForgedBehind(t *testing.T) {
	dir, other := written(t, Config{}, 10), written(t, Config{}, 30)
	lines, err := os.ReadFile(filepath.Join(other, fileName(1)))
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.SplitAfter(lines, []byte("\n"))
	for from, found := range map[int]bool{10: true, 12: true} { // records from the next one on, and from later
		if err := os.RemoveAll(filepath.Join(dir, fileName(1))); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fileName(2)), bytes.Join(all[from:], nil), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := verified(t, dir); (r.Finding != nil) != found || found && r.Finding.Seq > uint64(from+1) {
			t.Errorf("from record %d on: %+v", from+1, r)
		}
	}
}

// TestRewrittenWhileDown: the next process says that the record which was signed is another, in
// whichever file it was.
func TestRewrittenWhileDown(t *testing.T) {
	for _, rotate := range []int64{0, 1500} {
		dir, other := written(t, Config{Rotate: rotate}, 20), written(t, Config{Rotate: rotate}, 25)
		for _, copied := range []string{checkpointFile, publicFile, keyFile} {
			copyFile(t, filepath.Join(dir, copied), filepath.Join(other, copied))
		}
		written(t, Config{Dir: other, Rotate: rotate}, 1)
		said := 0
		for rec, err := range Read(other) {
			if err == nil && rec.Do == "missing" && strings.Contains(rec.Detail, "record 20 was not the one that had been signed") {
				said++
			}
		}
		if said != 1 {
			t.Errorf("rotate %d: it is said %d times", rotate, said)
		}
	}
}

// TestFirstIsSigned: a log has a checkpoint as soon as it has a record.
func TestFirstIsSigned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := Open(Config{Dir: dir, Node: "hosta", Each: true, Checkpoint: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Record(t.Context(), Entry{Who: "the node", Do: "start"}); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, dir); r.Finding != nil || r.Checkpoint.Seq != 1 {
		t.Errorf("%+v", r)
	}
}

// TestCrash: what was half written is cut off, said, and nothing else.
func TestCrash(t *testing.T) {
	dir := written(t, Config{}, 5)
	path := filepath.Join(dir, fileName(1))
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"seq":6,"detail":"` + strings.Repeat("x", 4000))
	f.Close()
	if r := verified(t, dir); r.Finding == nil || r.Finding.Seq != 6 || r.Finding.What != "it is cut off" {
		t.Errorf("%+v", r.Finding)
	}
	written(t, Config{Dir: dir}, 1)
	if r := verified(t, dir); r.Finding != nil || r.Last != 7 {
		t.Errorf("%+v", r)
	}
	said := false
	for rec := range Read(dir) {
		said = said || rec.Do == "recover" && strings.HasPrefix(rec.Detail, "4019 bytes")
	}
	if !said {
		t.Error("nobody says that something was cut off")
	}
}

// TestDamagedIsNotExtended: a log that was changed at its end is not gone on with.
func TestDamagedIsNotExtended(t *testing.T) {
	dir := written(t, Config{}, 5)
	path := filepath.Join(dir, fileName(1))
	b, _ := os.ReadFile(path)
	os.WriteFile(path, bytes.Replace(b, []byte("uid 1000"), []byte("uid 1001"), 1), 0o600)
	if _, err := Open(Config{Dir: dir, Node: "hosta"}); !errors.Is(err, fault.Corrupt) {
		t.Errorf("%v", err)
	}
}

// TestFull: a disk without room refuses records that have to be durable, keeps the others,
// and goes on by itself.
func TestFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	failures := make(chan error, 100)
	l, err := Open(Config{Dir: dir, Node: "hosta", Each: true, Written: func(err error) {
		select {
		case failures <- err:
		default:
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	record := func() error { return l.Record(context.Background(), Entry{Who: "uid 0", Do: "x"}) }
	if err := record(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileName(1))
	moved := path + ".away"
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // nothing can be opened there
		t.Fatal(err)
	}
	breakFile(t, l)
	if err := record(); err == nil || l.Ready() == nil {
		t.Errorf("a record that could not be written: %v, %v", err, l.Ready())
	}
	if err := errors.Join(os.Remove(path), os.Rename(moved, path)); err != nil {
		t.Fatal(err)
	}
	for l.Ready() != nil {
		<-failures
	}
	if err := record(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if r := verified(t, dir); r.Finding != nil || r.Last != 3 { // the refused one too: it waited
		t.Errorf("%+v", r)
	}
}

// breakFile makes the writer's next write fail.
func breakFile(t *testing.T, l *Log) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestEdits: random edits are found at the right place. The scorecard does the same a
// thousand times, through the program.
func TestEdits(t *testing.T) {
	dir := written(t, Config{Rotate: 6000}, 60)
	files, _ := filesOf(dir)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		file := files[rnd.IntN(len(files))]
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		after, line := edit(rnd, before, i%4)
		if err := os.WriteFile(file, after, 0o600); err != nil {
			t.Fatal(err)
		}
		r := verified(t, dir)
		if want := seqOf(t, before, line); r.Finding == nil || r.Finding.Seq != want {
			t.Errorf("edit %d of kind %d at record %d: %v", i, i%4, want, r.Finding)
		}
		if err := os.WriteFile(file, before, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// edit deletes or changes a line, exchanges two, or cuts the file off in one; which, from 0,
// is the first that is not as it was.
func edit(rnd *rand.Rand, file []byte, kind int) (_ []byte, which int) {
	lines := bytes.SplitAfter(bytes.TrimSuffix(file, []byte("\n")), []byte("\n"))
	lines[len(lines)-1] = append(bytes.Clone(lines[len(lines)-1]), '\n')
	i := rnd.IntN(len(lines))
	switch kind {
	case 0:
		return bytes.Join(append(lines[:i:i], lines[i+1:]...), nil), i
	case 1:
		line := bytes.Clone(lines[i])
		at := rnd.IntN(len(line) - 1)
		line[at] = "abcdefghijklmnopqrstuvwxyz"[(int(line[at])+1+rnd.IntN(20))%26]
		if bytes.Equal(line, lines[i]) {
			line[at] = '_'
		}
		lines[i] = line
		return bytes.Join(lines, nil), i
	case 2:
		i = rnd.IntN(len(lines) - 1)
		j := i + 1 + rnd.IntN(len(lines)-1-i)
		lines[i], lines[j] = lines[j], lines[i]
		return bytes.Join(lines, nil), i
	}
	before := len(bytes.Join(lines[:i], nil))
	return bytes.Clone(file[:before+rnd.IntN(len(lines[i]))]), i
}

// seqOf is the number of the record in a line, from 0.
func seqOf(t *testing.T, file []byte, line int) uint64 {
	t.Helper()
	r, why := parse(bytes.Split(file, []byte("\n"))[line])
	if why != "" {
		t.Fatal(why)
	}
	return r.Seq
}
