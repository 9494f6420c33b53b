package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/pannier/pannier/engine/audit"
)

var auditTrail = check{
	id: 41, title: "records of the audit log deleted, changed, exchanged, cut off, forged with a right hash, or all written anew from one on: verify names the first that is not as it was",
	unit: "edits found at the right place", n: counts{reduced: 300, full: 1000, control: 60},
	mutant: "records are not compared with the hash that the next one has",
	edits: []edit{
		{"engine/audit/verify.go", "		case rec.Prev != prev:\n", "		case rec.Prev != prev && !mutant(\"41\"):\n"},
	},
	run: runAudit,
}

// auditRecords are how many a log has; some files of them.
const auditRecords = 200

func runAudit(ctx context.Context, j *job) (result, error) {
	var w note
	dir := filepath.Join(j.dir, "audit")
	l, err := audit.Open(audit.Config{Dir: dir, Node: "hosta", Each: true, Rotate: 12_000})
	if err != nil {
		return result{}, err
	}
	for i := range auditRecords {
		if err := l.Record(ctx, audit.Entry{Who: "uid 1000", Do: "Submit", On: fmt.Sprint(i), Detail: "partner hostb"}); err != nil {
			return result{}, err
		}
	}
	if err := l.Close(); err != nil {
		return result{}, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	if err != nil {
		return result{}, err
	}
	slices.Sort(files)
	found := 0
	for i := range j.n {
		ok, err := editOnce(&w, j.rnd, dir, files, i%len(auditEdits))
		if err != nil {
			return result{}, err
		}
		if ok {
			found++
		}
	}
	return w.result(float64(found), "%d edits of %d records in %d files", j.n, auditRecords, len(files)), nil
}

// auditEdits are what is done to a log. Each changes the lines of all files and returns which
// record, from 0, is the first that is not as it was.
var auditEdits = []struct {
	name string
	do   func(*rand.Rand, [][]byte) ([][]byte, int)
}{
	{"delete", func(r *rand.Rand, all [][]byte) ([][]byte, int) {
		i := r.IntN(len(all))
		return slices.Delete(all, i, i+1), i
	}},
	{"change", func(r *rand.Rand, all [][]byte) ([][]byte, int) {
		i := r.IntN(len(all))
		at := r.IntN(len(all[i]) - 1)
		all[i][at] ^= byte(1 + r.IntN(15))
		if all[i][at] == '\n' {
			all[i][at] = '#'
		}
		return all, i
	}},
	{"exchange", func(r *rand.Rand, all [][]byte) ([][]byte, int) {
		i := r.IntN(len(all) - 1)
		k := i + 1 + r.IntN(len(all)-1-i)
		all[i], all[k] = all[k], all[i]
		return all, i
	}},
	{"truncate", func(r *rand.Rand, all [][]byte) ([][]byte, int) {
		i := r.IntN(len(all))
		all[i] = all[i][:r.IntN(len(all[i]))]
		return all[:i+1], i
	}},
	{"forge", func(r *rand.Rand, all [][]byte) ([][]byte, int) {
		i := r.IntN(len(all) - 1)
		all[i] = forged(all[i], "")
		return all, i
	}},
	{"rewrite", func(r *rand.Rand, all [][]byte) ([][]byte, int) {
		i := r.IntN(len(all))
		prev := ""
		for k := i; k < len(all); k++ {
			all[k] = forged(all[k], prev)
			prev = hashOf(all[k])
		}
		return all, len(all) - 1 // only what is signed is known
	}},
}

// forged is a record by another, behind a record of that hash, with a right hash of its own.
func forged(line []byte, prev string) []byte {
	var r audit.Record
	if json.Unmarshal(line, &r) != nil {
		return line
	}
	r.Who, r.Hash = "uid 0", ""
	if prev != "" {
		r.Prev = prev
	}
	body, _ := json.Marshal(r)
	sum := sha256.Sum256(body)
	return append(body[:len(body)-1], `,"hash":"`+hex.EncodeToString(sum[:])+"\"}\n"...)
}

func hashOf(line []byte) string {
	var r audit.Record
	_ = json.Unmarshal(line, &r) // of forged
	return r.Hash
}

// editOnce does one edit, verifies, and takes it back.
func editOnce(w *note, rnd *rand.Rand, dir string, files []string, kind int) (found bool, err error) {
	var all [][]byte
	before := make([][]byte, len(files))
	for i, file := range files {
		if before[i], err = os.ReadFile(file); err != nil {
			return false, err
		}
		for line := range bytes.Lines(before[i]) {
			all = append(all, bytes.Clone(line))
		}
	}
	after, which := auditEdits[kind].do(rnd, all)
	for i, file := range files { // as many lines each as there were
		n := bytes.Count(before[i], []byte("\n"))
		if i == len(files)-1 {
			n = len(after)
		}
		n = min(n, len(after))
		if err := os.WriteFile(file, bytes.Join(after[:n], nil), 0o600); err != nil {
			return false, err
		}
		after = after[n:]
	}
	r, err := audit.Verify(dir, "", "")
	if err != nil {
		return false, err
	}
	for i, file := range files {
		if err := os.WriteFile(file, before[i], 0o600); err != nil {
			return false, err
		}
	}
	if r.Finding == nil || r.Finding.Seq != uint64(which)+1 {
		w.add("%s at record %d: found is %v", auditEdits[kind].name, which+1, r.Finding)
		return false, nil
	}
	return true, nil
}
