package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// older makes a store with records and takes it back to format 1.
func older(t *testing.T, n int) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "store")
	s, err := Open(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Hour)
	for i := range n {
		finish(t, s, i, []string{"a", "ab", "b"}[i%3], at.Add(time.Duration(i)*time.Second))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		if err := tx.DeleteBucket(buckets[inPartners]); err != nil {
			return err
		}
		return tx.Bucket(buckets[inMeta]).Put(formatKey, binary.BigEndian.AppendUint32(nil, 1))
	})
	if err != nil || db.Close() != nil {
		t.Fatal(err)
	}
	return path
}

// finish registers a request that is done.
func finish(t *testing.T, s *Store, i int, partner string, at time.Time) {
	t.Helper()
	key := lifecycle.Key{Requester: "node", ID: lifecycle.ID{byte(i >> 8), byte(i), 1}}
	r, err := lifecycle.Register(key, lifecycle.Sender, lifecycle.Spec{Partner: partner, Rule: "r", Follow: key.ID}, at)
	if err != nil {
		t.Fatal(err)
	}
	events := []lifecycle.Event{lifecycle.Claim{Epoch: 1}}
	for p := lifecycle.Pre; p <= lifecycle.Finished; p++ {
		events = append(events, lifecycle.Advance{Epoch: 1, To: p, Size: -1})
	}
	if _, _, err := s.Register(t.Context(), r, append(events, lifecycle.Conclude{Epoch: 1})...); err != nil {
		t.Fatal(err)
	}
}

// of lists a partner's requests.
func of(t *testing.T, s *Store, partner string) (ids []string) {
	t.Helper()
	for r, err := range s.Find(t.Context(), store.Query{Partner: partner}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Spec.Partner != partner {
			t.Errorf("%s among those of %s", r.Spec.Partner, partner)
		}
		ids = append(ids, r.Key.ID.String())
	}
	return ids
}

func TestMigrate(t *testing.T) {
	const n = 3000 // more than one reading
	path := older(t, n)
	s, err := Open(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for _, partner := range []string{"a", "ab", "b"} {
		ids := of(t, s, partner)
		if len(ids) != n/3 {
			t.Errorf("%d of %s", len(ids), partner)
		}
		for i := 1; i < len(ids); i++ {
			if ids[i] >= ids[i-1] {
				t.Fatal("the last one does not come first")
			}
		}
	}
	if _, err := s.Purge(t.Context(), time.Now(), n); err != nil {
		t.Fatal(err)
	}
	if left := of(t, s, "ab"); len(left) > 0 {
		t.Errorf("%d are left", len(left))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Verify(path); err != nil {
		t.Error(err)
	}
	if f, err := formatOf(path + ".format-1"); f != 1 || err != nil {
		t.Errorf("the file as it was: format %d, %v", f, err)
	}
}

// TestMigrateAgain: a store that was put back as it was and written to is kept as well when it is migrated
// once more, beside what was kept before; a migration that stopped behind that keeps it once.
func TestMigrateAgain(t *testing.T) {
	path := older(t, 9)
	kept := path + ".format-1"
	migrated := func() {
		t.Helper()
		s, err := Open(Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(path, kept); err != nil { // as a crash leaves it
		t.Fatal(err)
	}
	migrated()
	if _, err := os.Stat(kept + ".1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("kept twice: %v", err)
	}
	was, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < 3; n++ {
		if err := errors.Join(os.Remove(path), os.WriteFile(path, was, 0o600)); err != nil {
			t.Fatal(err)
		}
		migrated()
		if f, err := formatOf(fmt.Sprintf("%s.%d", kept, n)); f != 1 || err != nil {
			t.Errorf("migrated %d times: format %d, %v", n+1, f, err)
		}
	}
}

// TestMigrateStops wants a migration that fails, or a crash before its end, to leave the
// file as it was.
func TestMigrateStops(t *testing.T) {
	path := older(t, 9)
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good := migrations[1]
	defer func() { migrations[1] = good }()
	migrations[1] = func(tx *bbolt.Tx) error { return fmt.Errorf("no: %w", fault.Internal) }
	if _, err := Open(Config{Path: path}); fault.KindOf(err) != fault.Internal {
		t.Fatal(err)
	}
	if is, err := os.ReadFile(path); err != nil || string(is) != string(was) {
		t.Error("the file has changed", err)
	}
	migrations[1] = good
	if err := os.WriteFile(path+".migrating", []byte("what a crash has left"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if ids := of(t, s, "a"); len(ids) != 3 {
		t.Error(ids)
	}
}

// TestMigrateTogether: of those that open an older store at the same time one has it, with all that is in it, and the
// others are told that it is in use; nothing is migrated that somebody has open.
func TestMigrateTogether(t *testing.T) {
	const records = 60
	old, err := os.ReadFile(older(t, records))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range 4 {
		path := filepath.Join(t.TempDir(), "store")
		if err := os.WriteFile(path, old, 0o600); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		opened := make(chan *Store, 4)
		for range 4 {
			all.Go(func() {
				switch s, err := Open(Config{Path: path}); {
				case err == nil:
					opened <- s
				case fault.KindOf(err) != fault.Exists:
					t.Error(err)
				}
			})
		}
		all.Wait()
		close(opened)
		if len(opened) > 1 {
			t.Error("two have the store")
		}
		for s := range opened {
			n++
			if got := len(of(t, s, "a")) + len(of(t, s, "ab")) + len(of(t, s, "b")); got != records {
				t.Errorf("%d records of %d", got, records)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := Verify(path); err != nil {
			t.Error(err)
		}
	}
	if n == 0 { // each waits for the others a second only, and a machine may stand still
		t.Error("nobody has ever had the store")
	}
}

// TestSeize: who has the file open keeps it from being migrated; and a file that has another's name by now is not taken.
func TestSeize(t *testing.T) {
	path := older(t, 3)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := seize(path); fault.KindOf(err) != fault.Exists {
		t.Errorf("%v, %v", f, err)
	}
	release := time.AfterFunc(lockWait/4, func() { // as another that has migrated it does
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path+".migrating", b, 0o600)
		}
		if err := errors.Join(err, os.Rename(path+".migrating", path), db.Close()); err != nil {
			t.Error(err)
		}
	})
	defer release.Stop()
	if f, err := seize(path); fault.KindOf(err) != fault.Exists {
		t.Errorf("%v, %v", f, err)
	}
	f, err := seize(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seize(path); fault.KindOf(err) != fault.Exists {
		t.Errorf("a second one: %v", err)
	}
	f.Close()
}
