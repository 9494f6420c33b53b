package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

var rot = check{
	id: 30, title: "random damage to the store or its log of a stopped node, or to a partial file and its state: the node refuses to start, or says what is damaged when it is asked, or nothing is wrong; no panic, no request that is something else, no wrong file",
	unit: "violations", n: counts{reduced: 12, full: 1000, control: 120},
	mutant: "records without a check",
	edits:  []edit{{"engine/boltstore/codec.go", "if crc32.Checksum(body, castagnoli) != sum {", `if crc32.Checksum(body, castagnoli) != sum && !mutant("30") {`}},
	run:    runRot,
}

// rotten is two nodes in the middle of a transfer, and how to have them there again.
type rotten struct {
	duo
	note
	content []byte
	id      string              // of the transfer that is not over
	ids     []string            // of all
	stores  map[string][]byte   // pristine, with everything that their logs had
	killed  map[string][]byte   // b's store and its log as the kill has left them, by their paths
	partial map[string][]byte   // what b keeps of it
	records []map[string]string // what b may say of its requests: now, and one commit ago

	refused, reported, harmless, repaired int
}

const rotName = "rot"

func runRot(ctx context.Context, j *job) (result, error) {
	d, err := newDuo(ctx, j.dir, duoSettings{every: sourceEvery, window: 256 * flow.KiB, node: []string{sourceRate}})
	if err != nil {
		return result{}, err
	}
	r := &rotten{duo: *d, content: content(j.rnd, 4*mib)}
	err = r.prepare(ctx, j)
	for i := 0; i < j.n && err == nil; i++ {
		err = r.damage(ctx, j, i)
	}
	if err = errors.Join(err, r.close()); err != nil {
		return result{}, err
	}
	return r.result(float64(r.n), "%d stores were refused, in %d something was reported, %d were as they should be; %d partial files were found out or right",
		r.refused, r.reported, r.harmless, r.repaired), nil
}

// prepare brings b into the middle of a transfer, after others, and keeps all that there is.
func (r *rotten) prepare(ctx context.Context, j *job) error {
	for i := range 24 {
		name := fmt.Sprint("before", i)
		if err := os.WriteFile(filepath.Join(r.a.Root, name), r.content[:1000+i], 0o644); err != nil {
			return fault.Wrap("write source", name, err)
		}
		at, id, err := r.toB(ctx, i, name)
		if err == nil {
			err = r.finish(ctx, at, id)
		}
		if err != nil {
			return err
		}
		r.ids = append(r.ids, id)
	}
	if err := os.WriteFile(filepath.Join(r.a.Root, rotName), r.content, 0o644); err != nil {
		return fault.Wrap("write source", rotName, err)
	}
	at, id, err := r.toB(ctx, 0, rotName)
	if err == nil {
		err = r.arrived(ctx, at, id, mib)
	}
	if err != nil {
		return err
	}
	r.id, r.ids = id, append(r.ids, id)
	r.b.Kill()
	r.a.Kill()
	r.stores, r.killed, r.partial = map[string][]byte{}, map[string][]byte{}, map[string][]byte{}
	for _, name := range storeFiles(r.b) {
		text, err := os.ReadFile(name)
		if err != nil {
			return fault.Wrap("keep store", r.b.Name, err)
		}
		r.killed[name] = text
	}
	for _, n := range []*nodetest.Node{r.a, r.b} {
		s, err := boltstore.Open(boltstore.Config{Path: storeOf(n)})
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			return fault.Wrap("keep store", n.Name, err)
		}
		text, err := os.ReadFile(storeOf(n))
		if err != nil {
			return fault.Wrap("keep store", n.Name, err)
		}
		r.stores[n.Name] = used(text)
	}
	kept, err := filepath.Glob(partialOf(r.b.Root, rotName) + "*")
	if err != nil || len(kept) < 2 { // and what the next state was going to be
		return fault.New("keep partial file", fault.NotFound, "there are %q, %v", kept, err)
	}
	for _, path := range kept {
		if r.partial[path], err = os.ReadFile(path); err != nil {
			return fault.Wrap("keep partial file", path, err)
		}
	}
	// The two meta pages take turns: without the younger one a store is as it was a folding ago.
	// A log whose last commit is damaged is as it was before that.
	log, last := r.lastCommit()
	if last < 0 {
		return fault.New("keep store", fault.NotFound, "there is no commit in %s", log)
	}
	for state := range 5 {
		store := bytes.Clone(r.stores[r.b.Name])
		if state < 2 {
			clear(store[state*os.Getpagesize() : (state+1)*os.Getpagesize()])
		}
		err := r.reset(store)
		if state > 2 {
			err = r.asKilled(log, func(b []byte) { clear(b[last : last+(state-3)*sector]) })
		}
		if err != nil {
			return err
		}
		if err := r.b.Start(ctx); err != nil {
			return err
		}
		records, err := recordsOf(ctx, r.b)
		if err != nil {
			return err
		}
		r.records = append(r.records, records)
	}
	return nil
}

func storeOf(n *nodetest.Node) string { return filepath.Join(n.State, "store.db") }

// storeFiles are the store and its log.
func storeFiles(n *nodetest.Node) []string {
	return []string{storeOf(n), storeOf(n) + ".log-0", storeOf(n) + ".log-1"}
}

// sector is where a commit of the log begins: "PNLG", and at 16 its number.
const sector = 512

// lastCommit is where the last commit of b's log is.
func (r *rotten) lastCommit() (name string, at int) {
	last := uint64(0)
	at = -1
	for _, file := range storeFiles(r.b)[1:] {
		b := r.killed[file]
		for i := 0; i+sector <= len(b); i += sector {
			if number := binary.BigEndian.Uint64(b[i+16:]); string(b[i:i+4]) == "PNLG" && number > last {
				name, at, last = file, i, number
			}
		}
	}
	return name, at
}

// asKilled brings b's store and its log back to what the kill has left, with a change of one of them.
func (r *rotten) asKilled(name string, change func([]byte)) error {
	for file, text := range r.killed {
		text = bytes.Clone(text)
		if file == name {
			change(text)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return fault.Wrap("go back", "", err)
		}
	}
	return nil
}

// used is a store without the room at its end that was never written to.
func used(store []byte) []byte {
	end := len(bytes.TrimRight(store, "\x00")) + 4*os.Getpagesize()
	return store[:min(len(store), end-end%os.Getpagesize())]
}

// reset stops both nodes and brings them back into the middle of the transfer, b
// with that store.
func (r *rotten) reset(store []byte) error {
	r.a.Kill()
	r.b.Kill()
	for _, n := range []*nodetest.Node{r.a, r.b} {
		for _, log := range storeFiles(n)[1:] {
			if err := remove(log); err != nil {
				return err
			}
		}
	}
	err := errors.Join(os.WriteFile(storeOf(r.a), r.stores[r.a.Name], 0o600), os.WriteFile(storeOf(r.b), store, 0o600), remove(filepath.Join(r.b.Root, rotName)))
	for path, text := range r.partial {
		err = errors.Join(err, os.WriteFile(path, text, 0o600))
	}
	return fault.Wrap("go back", "", err)
}

// recordsOf is what a node says of each request; an error is that of reading them.
func recordsOf(ctx context.Context, n *nodetest.Node) (map[string]string, error) {
	c, err := n.Client()
	if err != nil {
		return nil, err
	}
	stream, err := c.List(ctx, &adminpb.ListRequest{})
	if err != nil {
		return nil, err
	}
	records := map[string]string{}
	for {
		r, err := stream.Recv()
		if err == io.EOF {
			return records, nil
		}
		if err != nil {
			return nil, err
		}
		// What a start does to it is not the same each time.
		r.Changed, r.Due, r.Live, r.Version, r.Owner, r.Reason = nil, nil, nil, 0, 0, ""
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		if err != nil {
			return nil, fault.Wrap("compare records", "", err)
		}
		records[r.GetId()] = string(text)
	}
}

// damage damages something, starts b, and looks at what it makes of it.
func (r *rotten) damage(ctx context.Context, j *job, i int) error {
	store := bytes.Clone(r.stores[r.b.Name])
	what := ""
	if i%8 != 7 && i%8 != 5 {
		what = r.damageStore(j, store, i)
		if i%24 == 9 {
			store, what = store[:j.rnd.IntN(len(store))], "a store that was cut off"
		}
	}
	if err := r.reset(store); err != nil {
		return err
	}
	if i%8 == 5 {
		var err error
		if what, err = r.damageLog(j); err != nil {
			return err
		}
	}
	if i%8 == 7 {
		var err error
		if what, err = r.damageKept(j); err != nil {
			return err
		}
	}
	verified := boltstore.Verify(storeOf(r.b))
	if err := r.b.Start(ctx); err != nil {
		switch text, readErr := os.ReadFile(r.logs[1].Name()); {
		case readErr != nil:
			return fault.Wrap("read log", "", readErr)
		case panicked(text) != "":
			r.add("%s: it panics: %s", what, panicked(text))
		case verified == nil:
			r.add("%s: it does not start, and nothing is found to be wrong: %v", what, err)
		}
		r.refused++
		return nil
	}
	records, err := recordsOf(ctx, r.b)
	switch {
	case err != nil && fault.KindOf(err) == fault.Corrupt:
		r.reported++
		return nil
	case err != nil:
		r.add("%s: asking for the requests: %v; found before: %v", what, err, verified)
		return nil
	case !r.known(records):
		r.add("%s: %d requests, not those that there were", what, len(records))
		return nil
	case verified != nil: // events, or a place in an index
		if told, err := asked(ctx, r.b); err != nil || !told {
			r.add("%s: asked to check, the node finds nothing, %v; and there is: %v", what, err, verified)
		}
		r.reported++
	case i%8 == 7:
		r.repaired++
	default:
		r.harmless++
	}
	if verified == nil && i%8 != 7 && i%5 > 0 {
		return nil // nothing has changed
	}
	if err := r.a.Start(ctx); err != nil {
		return err
	}
	if err := r.finish(ctx, r.a, r.id); err != nil {
		if verified == nil {
			r.add("%s: the transfer does not finish: %v", what, err)
		}
		return nil
	}
	r.mustEqual(what, filepath.Join(r.b.Root, rotName), r.content)
	return nil
}

// asked has a node check itself, and reports whether it has found an error.
func asked(ctx context.Context, n *nodetest.Node) (bool, error) {
	c, err := n.Client()
	if err != nil {
		return false, err
	}
	stream, err := c.Check(ctx, &adminpb.CheckRequest{})
	if err != nil {
		return false, err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return fault.KindOf(err) == fault.Corrupt, nil
		}
		if counts := r.GetCounts(); counts != nil {
			return counts.GetErrors() > 0, nil
		}
	}
}

// damageLog damages a byte of what b's log has, near its end or anywhere.
func (r *rotten) damageLog(j *job) (what string, err error) {
	name, last := r.lastCommit()
	at := j.rnd.IntN(last + sector)
	if j.rnd.IntN(4) == 0 {
		at = last + j.rnd.IntN(sector)
	}
	flip := byte(1 + j.rnd.IntN(255))
	return fmt.Sprintf("byte %d of %s ^ %#x, whose last commit is at %d", at, filepath.Base(name), flip, last), r.asKilled(name, func(b []byte) { b[at] ^= flip })
}

// known reports whether the requests are those of the last commit or of the one before.
func (r *rotten) known(records map[string]string) bool {
	for _, want := range r.records {
		same := len(want) == len(records)
		for id, text := range want {
			same = same && records[id] == text
		}
		if same {
			return true
		}
	}
	return false
}

// damageStore damages one byte somewhere or in the head of a page, clears a page,
// or damages what follows the id of a request, wherever that is: a store has old
// copies of its pages, too.
func (r *rotten) damageStore(j *job, store []byte, i int) string {
	size := os.Getpagesize()
	pages := len(store)/size - 2
	flip := byte(1 + j.rnd.IntN(255))
	kind := i % 4
	if j.broken {
		kind = 0 // where its mutant is
	}
	switch page := (2 + j.rnd.IntN(pages)) * size; kind {
	case 0, 2:
		flip = 1 << j.rnd.IntN(3) // so that most values stay of their type
		id, _ := hex.DecodeString(r.ids[j.rnd.IntN(len(r.ids))])
		after := j.rnd.IntN(128)
		n := 0
		for from := 2 * size; ; n++ {
			at := bytes.Index(store[from:], id)
			if from += at + len(id); at < 0 || from+after >= len(store) {
				break
			}
			store[from+after] ^= flip
		}
		return fmt.Sprintf("%d bytes behind the %d places of a request's id damaged", after, n)
	case 1:
		if i%8 == 1 {
			clear(store[page : page+size])
			return fmt.Sprintf("page %d cleared", page/size)
		}
		at := j.rnd.IntN(64)
		store[page+at] ^= flip
		return fmt.Sprintf("byte %d of page %d damaged", at, page/size)
	}
	at := 2*size + j.rnd.IntN(pages*size)
	store[at] ^= flip
	return fmt.Sprintf("byte %d of the store damaged", at)
}

// damageKept damages a byte of the partial file or of its state, or cuts one off.
func (r *rotten) damageKept(j *job) (what string, err error) {
	path := slices.Sorted(maps.Keys(r.partial))[j.rnd.IntN(2)]
	text := bytes.Clone(r.partial[path])
	at := j.rnd.IntN(len(text))
	if j.rnd.IntN(4) == 0 {
		text = text[:at]
	} else {
		text[at] ^= byte(1 + j.rnd.IntN(255))
	}
	return fmt.Sprintf("%s damaged at %d of %d", filepath.Base(path), at, len(r.partial[path])), fault.Wrap("damage file", path, os.WriteFile(path, text, 0o600))
}
