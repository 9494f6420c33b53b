package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// files are a store's, as a power cut would leave them.
type files struct{ db, log0, log1 []byte }

func (f files) write(t testing.TB, path string) {
	t.Helper()
	for name, b := range map[string][]byte{path: f.db, logPath(path, 0): f.log0, logPath(path, 1): f.log1} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func filesOf(t testing.TB, path string) files {
	t.Helper()
	read := func(name string) []byte { return must[[]byte](t)(os.ReadFile(name)) }
	return files{db: read(path), log0: read(logPath(path, 0)), log1: read(logPath(path, 1))}
}

// request registers request i, or changes it if it is there.
func request(t testing.TB, s *Store, i int) lifecycle.Record {
	t.Helper()
	key := lifecycle.Key{Requester: "node", ID: lifecycle.ID{byte(i >> 8), byte(i), 2}}
	r := must[lifecycle.Record](t)(lifecycle.Register(key, lifecycle.Sender, lifecycle.Spec{Partner: "p", Rule: "r", Follow: key.ID}, time.Unix(1000, 0)))
	r, made, err := s.Register(t.Context(), r)
	if err == nil && !made {
		event := []lifecycle.Event{lifecycle.Stop{Due: time.Unix(2000, 0)}, lifecycle.Resume{Due: time.Unix(2000, 0)}}[r.Version%2]
		r, err = s.Apply(t.Context(), store.RefOf(&r), time.Unix(1500, 0), event)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// versions are those of all requests, and whether their events are whole.
func versions(t testing.TB, s *Store) map[lifecycle.ID]uint64 {
	t.Helper()
	all := map[lifecycle.ID]uint64{}
	for r, err := range s.Find(t.Context(), store.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		events := must[[]store.Entry](t)(s.Events(t.Context(), store.RefOf(&r)))
		if last := events[len(events)-1].Seq; last != r.Version+1 || r.Key.ID[2] == 2 && len(events) != int(min(r.Version+1, store.MaxEvents)) {
			t.Errorf("request %v has version %d, and %d events up to %d", r.Key.ID, r.Version, len(events), last)
		}
		all[r.Key.ID] = r.Version
	}
	return all
}

func foldNow(t testing.TB, s *Store) {
	t.Helper()
	if err := s.wait(t.Context(), &write{fold: true}); err != nil {
		t.Fatal(err)
	}
}

// TestPowerCut stops a store at each of its states: after commits, before, within and after a
// folding. What was acknowledged is there when it is opened again.
func TestPowerCut(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	dir := t.TempDir()
	path, cut := filepath.Join(dir, "store"), filepath.Join(dir, "cut")
	s := must[*Store](t)(Open(Config{Path: path}))
	defer func() { _ = s.Close() }()
	told := map[lifecycle.ID]uint64{}
	old := must[[]byte](t)(os.ReadFile(path))
	check := func(what string, f files) {
		t.Helper()
		f.write(t, cut)
		if err := Verify(cut); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		again := must[*Store](t)(Open(Config{Path: cut}))
		defer again.Close()
		if found := versions(t, again); !maps.Equal(found, told) {
			t.Fatalf("%s: %d requests found, %d told", what, len(found), len(told))
		}
	}
	for i := range 60 {
		for range rnd.IntN(20) {
			r := request(t, s, rnd.IntN(50))
			told[r.Key.ID] = r.Version
		}
		switch rnd.IntN(4) {
		case 0:
			foldNow(t, s)
			f := filesOf(t, path)
			check(fmt.Sprint("folded ", i), f)
			f.db = old // as if the folding had not got there
			check(fmt.Sprint("before the folding ", i), f)
			old = must[[]byte](t)(os.ReadFile(path))
		case 1:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if f := filesOf(t, path); len(f.log0)+len(f.log1) > 0 {
				t.Fatal("a log is left")
			}
			s = must[*Store](t)(Open(Config{Path: path}))
			old = must[[]byte](t)(os.ReadFile(path))
		default:
			check(fmt.Sprint("commits ", i), filesOf(t, path))
		}
	}
}

// commits are where those of a log begin.
func commits(t testing.TB, b []byte, id uint64) (at []int) {
	t.Helper()
	for pos := 0; pos < len(b); {
		_, n, ok := parseCommit(b[pos:], id)
		if !ok {
			break
		}
		at = append(at, pos)
		pos += n
	}
	return at
}

// TestDamagedLog: the last commit may be a piece of one, all before it are whole or the store
// is not opened. Another store's log is none.
func TestDamagedLog(t *testing.T) {
	dir := t.TempDir()
	path, cut := filepath.Join(dir, "store"), filepath.Join(dir, "cut")
	s := must[*Store](t)(Open(Config{Path: path}))
	for i := range 9 {
		request(t, s, i)
	}
	whole, id := filesOf(t, path), s.log.store
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	at := commits(t, whole.log0, id)
	if len(at) != 9 {
		t.Fatalf("%d commits", len(at))
	}
	// opens wants n requests, or (n < 0) a store that is refused.
	opens := func(what string, f files, n int) {
		t.Helper()
		f.write(t, cut)
		verified := Verify(cut)
		s, err := Open(Config{Path: cut})
		if n < 0 {
			if fault.KindOf(err) != fault.Corrupt || fault.KindOf(verified) != fault.Corrupt {
				t.Fatalf("%s: %v, %v", what, verified, err)
			}
			return
		}
		if err != nil || verified != nil {
			t.Fatalf("%s: %v, %v", what, verified, err)
		}
		defer s.Close()
		if found := len(versions(t, s)); found != n {
			t.Fatalf("%s: %d requests, want %d", what, found, n)
		}
	}
	opens("whole", whole, 9)
	last := at[8]
	for n := 0; n < logAlign; n += 5 {
		f := whole
		f.log0 = slices.Clone(f.log0)
		switch n / 5 % 3 {
		case 0: // the sectors of the last commit that were not written have what was there
			clear(f.log0[last+n:])
		case 1:
			f.log0 = f.log0[:last+n]
		case 2:
			f.log0[last+n%(logHead+40)] ^= 0x10
		}
		want := 8
		if slices.Equal(f.log0[last:min(len(f.log0), last+logAlign)], whole.log0[last:last+min(logAlign, len(f.log0)-last)]) {
			continue // nothing of it has changed
		}
		if _, _, ok := parseCommit(f.log0[last:], id); ok {
			want = 9 // what fills it up to the next sector
		}
		opens(fmt.Sprint("the last commit, ", n), f, want)
	}
	for i := range 8 {
		f := whole
		f.log0 = slices.Clone(f.log0)
		f.log0[at[i]+logHead+3] ^= 1
		opens(fmt.Sprint("commit ", i, " damaged"), f, -1)
		f.log0 = slices.Concat(whole.log0[:at[i]], whole.log0[at[i+1]:])
		opens(fmt.Sprint("commit ", i, " missing"), f, -1)
	}
	other := must[*Store](t)(Open(Config{Path: filepath.Join(dir, "other")}))
	empty := filesOf(t, filepath.Join(dir, "other"))
	other.Close()
	whole.db = empty.db
	opens("another store's log", whole, 0)
}

// TestWithoutLog: a log that is gone loses what only it had, and a part of it is missed.
func TestWithoutLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := must[*Store](t)(Open(Config{Path: path}))
	request(t, s, 0)
	before := filesOf(t, path)
	foldNow(t, s)
	request(t, s, 1)
	after := filesOf(t, path)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	older := after // an older file, with a log that goes on after what it knows
	older.db, older.log0 = before.db, nil
	older.write(t, path)
	if _, err := Open(Config{Path: path}); fault.KindOf(err) != fault.Corrupt {
		t.Error(err)
	}
	older.log1 = nil
	older.write(t, path)
	s = must[*Store](t)(Open(Config{Path: path}))
	defer s.Close()
	if n := len(versions(t, s)); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestFullLog: a folding without room keeps what was acknowledged, refuses more, and purging
// gives room back.
func TestFullLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := must[*Store](t)(Open(Config{Path: path, MaxSize: 1 << 20}))
	defer func() { _ = s.Close() }()
	n, err := 0, error(nil)
	for ; err == nil; n++ {
		err = finished(t, s, n)
		if err == nil && n%50 == 49 {
			err = s.wait(t.Context(), &write{fold: true})
		}
	}
	if fault.KindOf(err) != fault.NoSpace {
		t.Fatal(err)
	}
	if err := s.wait(t.Context(), &write{fold: true}); fault.KindOf(err) != fault.NoSpace {
		t.Fatal(err)
	}
	if purged := must[int](t)(s.Purge(t.Context(), time.Now(), 1)); purged != 1 {
		t.Errorf("%d purged", purged)
	}
	told := len(versions(t, s))
	cut := filepath.Join(t.TempDir(), "cut")
	filesOf(t, path).write(t, cut)
	again := must[*Store](t)(Open(Config{Path: cut}))
	if found := len(versions(t, again)); found != told || told < n-2 {
		t.Errorf("%d of %d are left, %d were told of", found, told, n)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if purged := must[int](t)(s.Purge(t.Context(), time.Now(), told/2)); purged != told/2 {
		t.Errorf("%d purged", purged)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if err = finished(t, s, n); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// TestFullWaits: a folding that has found no room is tried again now and then, also when the log has
// grown meanwhile to where it is folded at once.
func TestFullWaits(t *testing.T) {
	s := must[*Store](t)(Open(Config{Path: filepath.Join(t.TempDir(), "store"), MaxSize: 1 << 20}))
	defer func() { _ = s.Close() }()
	s.size = 1                                   // the committer waits
	held := must[*bbolt.Tx](t)(s.db.Begin(true)) // the folding waits for its end
	put := func(key string, n int) error {
		return s.write(t.Context(), func(c *change) error { c.put(inMeta, []byte(key), make([]byte, n)); return nil })
	}
	if err := errors.Join(put("large", 2<<20), put("beside", 1)); err != nil {
		t.Fatal(err)
	}
	_ = held.Rollback()
	if err := s.wait(t.Context(), &write{fold: true}); fault.KindOf(err) != fault.NoSpace {
		t.Fatal(err)
	}
	tries := func() int64 { stats := s.db.Stats(); return stats.TxStats.GetCursorCount() }
	before, began := tries(), time.Now()
	time.Sleep(foldAgain)
	const ofOne = 100 // cursors of one folding of so little, at the most
	if got, most := tries()-before, ofOne*(2+int64(time.Since(began)/foldAgain)); got > most {
		t.Errorf("%d cursors in the file after %v, want %d at the most", got, time.Since(began), most)
	}
}

// TestHeld: what the log has in memory is counted, and commits that change long lists of events wait for
// the folding when there is so much of it as may be.
func TestHeld(t *testing.T) {
	s := must[*Store](t)(Open(Config{Path: filepath.Join(t.TempDir(), "store")}))
	defer func() { _ = s.Close() }()
	s.log.sync = func(*os.File) error { return nil } // the committer waits
	const requests = 40
	for i := range requests {
		for range store.MaxEvents {
			request(t, s, i)
		}
	}
	foldNow(t, s)
	held := func() (counted, there int64) {
		s.mu.RLock()
		defer s.mu.RUnlock()
		s.ahead.Scan(func(i item) bool { there += i.bytes(); return true })
		return s.held, there
	}
	if counted, there := held(); counted != 0 || there != 0 {
		t.Fatalf("%d bytes after a folding, %d are counted", there, counted)
	}
	request(t, s, 0)
	_, list := held() // of one request
	most := 10 * list
	err := s.write(t.Context(), func(*change) error { s.most = most; return nil })
	if err != nil {
		t.Fatal(err)
	}
	stuck := must[*bbolt.Tx](t)(s.db.Begin(true)) // no folding ends
	defer func() { _ = stuck.Rollback() }()
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range 2 {
			for i := range requests {
				request(t, s, i)
			}
		}
	}()
	for last, quiet := int64(-1), 0; quiet < 20; {
		select {
		case <-over:
			t.Fatal("commits go on, whatever there is in memory")
		case <-time.After(10 * time.Millisecond):
		}
		counted, there := held()
		if counted != there || there > most+2*list {
			t.Fatalf("%d bytes are in memory, %d are counted; %d may be", there, counted, most)
		}
		if quiet++; there < most || there != last {
			last, quiet = there, 0
		}
	}
	_ = stuck.Rollback()
	<-over
	foldNow(t, s)
	if counted, there := held(); counted != 0 || there != 0 {
		t.Errorf("%d bytes in the end, %d are counted", there, counted)
	}
	versions(t, s)
}

// TestOnce: writers that set very much are several commits.
func TestOnce(t *testing.T) {
	s := must[*Store](t)(Open(Config{Path: filepath.Join(t.TempDir(), "store")}))
	defer func() { _ = s.Close() }()
	s.size = 1 << 40 // no folding meanwhile
	all := make([]*write, 5)
	for i := range all {
		key := []byte{byte(i)}
		all[i] = &write{done: make(chan struct{}), do: func(c *change) error { c.put(inMeta, key, make([]byte, mostOnce/2)); return nil }}
	}
	begun := make(chan struct{})
	goOn := make(chan struct{})
	go func() { _ = s.write(t.Context(), func(*change) error { close(begun); <-goOn; return nil }) }()
	<-begun
	before := s.log.last
	for _, w := range all {
		s.queue <- w
	}
	close(goOn)
	for i, w := range all {
		if <-w.done; w.err != nil {
			t.Errorf("%d: %v", i, w.err)
		}
	}
	if n := s.log.last - before; n != 3 {
		t.Errorf("%d commits", n)
	}
}

// TestFoldMeanwhile: what is committed while a folding is under way is not lost with what it has
// folded.
func TestFoldMeanwhile(t *testing.T) {
	s := must[*Store](t)(Open(Config{Path: filepath.Join(t.TempDir(), "store")}))
	defer s.Close()
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for range 200 {
				r := request(t, s, i)
				err := s.peek(func(from reader) error {
					kept, err := get(from, refKey(store.RefOf(&r)))
					if err == nil && kept.Version != r.Version {
						t.Errorf("version %d is kept of %d", kept.Version, r.Version)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { writers.Wait(); close(over) }()
	for {
		foldNow(t, s)
		select {
		case <-over:
			return
		default:
		}
	}
}

// TestRefusedWrite: what a write has done before its error is in no log.
func TestRefusedWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := must[*Store](t)(Open(Config{Path: path}))
	defer s.Close()
	no := fault.New("try", fault.Refused, "no")
	err := s.write(t.Context(), func(c *change) error {
		c.put(inMeta, []byte("k"), []byte("v"))
		c.delete(inMeta, formatKey)
		return no
	})
	if err != no {
		t.Fatal(err)
	}
	request(t, s, 1)
	cut := filepath.Join(t.TempDir(), "cut")
	filesOf(t, path).write(t, cut)
	again := must[*Store](t)(Open(Config{Path: cut}))
	defer again.Close()
	for _, s := range []*Store{s, again} {
		_ = s.peek(func(from reader) error {
			if from.get(inMeta, []byte("k")) != nil || from.get(inMeta, formatKey) == nil {
				t.Error("it has happened")
			}
			return nil
		})
	}
}

// finished is finish, with its error.
func finished(t testing.TB, s *Store, i int) error {
	key := lifecycle.Key{Requester: "node", ID: lifecycle.ID{byte(i >> 8), byte(i), 1}}
	r := must[lifecycle.Record](t)(lifecycle.Register(key, lifecycle.Sender, lifecycle.Spec{Partner: "p", Rule: "r", Follow: key.ID, Info: string(bytes.Repeat([]byte("x"), 900))}, time.Unix(1000, 0)))
	events := []lifecycle.Event{lifecycle.Claim{Epoch: 1}}
	for p := lifecycle.Pre; p <= lifecycle.Finished; p++ {
		events = append(events, lifecycle.Advance{Epoch: 1, To: p, Size: -1})
	}
	_, _, err := s.Register(t.Context(), r, append(events, lifecycle.Conclude{Epoch: 1})...)
	return err
}

// TestView compares both ways of walking with a map.
func TestView(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	db := must[*bbolt.DB](t)(bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil))
	defer db.Close()
	for round := range 50 {
		over, all := newTree(), map[string]string{}
		key := func() string { return fmt.Sprintf("%0*d", 1+rnd.IntN(3), rnd.IntN(30)) }
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, name := range buckets {
				_ = tx.DeleteBucket(name)
				b := must[*bbolt.Bucket](t)(tx.CreateBucket(name))
				for range rnd.IntN(40) {
					k := key()
					if err := b.Put([]byte(k), []byte("file")); err != nil {
						return err
					}
					if string(name) == "done" {
						all[k] = "file"
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for range rnd.IntN(60) {
			k, bucket := key(), rnd.IntN(len(buckets))
			i := item{key: keyOf(bucket, []byte(k)), value: []byte("log")}
			if rnd.IntN(3) == 0 {
				i.value, i.gone = nil, true
			}
			over.Set(i)
			if bucket != inDone {
				continue
			}
			if all[k] = "log"; i.gone {
				delete(all, k)
			}
		}
		keys := slices.Sorted(maps.Keys(all))
		_ = db.View(func(tx *bbolt.Tx) error {
			v := view{tx: tx, over: over}
			for _, from := range append([]string{"", "0", "15", "29", "9"}, keys...) {
				var up, down []string
				start := []byte(from)
				if from == "" {
					start = nil
				}
				for k, value := range v.up(inDone, start) {
					if all[string(k)] != string(value) || string(v.get(inDone, k)) != string(value) {
						t.Fatalf("round %d: %s is %s", round, k, value)
					}
					up = append(up, string(k))
				}
				for k := range v.down(inDone, start) {
					down = append(down, string(k))
				}
				i, there := slices.BinarySearch(keys, from)
				below := slices.Clone(keys[:i])
				if there {
					below = slices.Clone(keys[:i+1])
				}
				if from == "" {
					below = slices.Clone(keys)
				}
				slices.Reverse(below)
				if !slices.Equal(up, keys[i:]) || !slices.Equal(down, below) {
					t.Fatalf("round %d, from %q: up %v, down %v of %v", round, from, up, down, keys)
				}
			}
			return nil
		})
	}
}
