package boltstore_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/store/storetest"
	"github.com/pannier/pannier/spec/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func opened(t testing.TB, path string) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(boltstore.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	path := ""
	storetest.Run(t, func(t *testing.T) store.Store {
		path = filepath.Join(t.TempDir(), "store")
		return opened(t, path)
	}, func(t *testing.T, s store.Store) store.Store {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return opened(t, path)
	})
}

// TestOpenRefuses: files that are not to be touched.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store")
	s := opened(t, path)
	if _, err := boltstore.Open(boltstore.Config{Path: path}); fault.KindOf(err) != fault.Exists {
		t.Errorf("open twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := boltstore.Open(boltstore.Config{}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("no path: %v", err)
	}
	edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("format"), []byte{0, 0, 0, 9}) })
	if _, err := boltstore.Open(boltstore.Config{Path: path}); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("a later format: %v", err)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, bytes.Repeat([]byte("not a store "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := boltstore.Open(boltstore.Config{Path: other}); err == nil {
		t.Errorf("another file was opened: %v", s.Close())
	}
}

func edit(t *testing.T, path string, do func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(do); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedRecord: a record whose bytes have changed is not believed, and the
// others still are.
func TestDamagedRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := opened(t, path)
	for i := range 2 {
		if _, _, err := s.Register(t.Context(), storetest.Request(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, path, func(tx *bbolt.Tx) error {
		k, v := tx.Bucket([]byte("active")).Cursor().First()
		v = bytes.Clone(v)
		v[len(v)/2] ^= 1
		return tx.Bucket([]byte("active")).Put(bytes.Clone(k), v)
	})
	s = opened(t, path)
	defer s.Close()
	bad, good := storetest.Request(0), storetest.Request(1)
	if _, err := s.Get(t.Context(), store.RefOf(&bad)); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("the damaged one: %v", err)
	}
	if _, err := s.Apply(t.Context(), store.RefOf(&bad), time.Now(), lifecycle.Claim{Epoch: 1}); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("claimed: %v", err)
	}
	if _, err := s.Get(t.Context(), store.RefOf(&good)); err != nil {
		t.Error(err)
	}
}

// TestFull: at the limit of its size a store refuses new work, keeps what it
// has, and goes on when there is room again.
func TestFull(t *testing.T) {
	s, err := boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "store"), MaxSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	kept := 0
	for i := 0; ; i++ {
		r := storetest.Request(i)
		r.Spec.Info = string(bytes.Repeat([]byte("x"), lifecycle.MaxInfo))
		if _, _, err = s.Register(t.Context(), r); err != nil {
			break
		}
		kept++
	}
	if fault.KindOf(err) != fault.NoSpace || kept < 10 {
		t.Fatalf("after %d records: %v", kept, err)
	}
	first := storetest.Request(0)
	if _, err := s.Get(t.Context(), store.RefOf(&first)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Purge(t.Context(), time.Now(), 1); err != nil {
		t.Fatal("nothing can be purged:", err)
	}
}

// TestBackup: a backup that is taken while the store is written to is a store.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, filepath.Join(dir, "store"))
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	writers.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, _, _ = s.Register(ctx, storetest.Request(i))
		}
	})
	first := storetest.Request(0)
	for {
		if _, err := s.Get(t.Context(), store.RefOf(&first)); err == nil {
			break
		}
	}
	var copied bytes.Buffer
	err := s.Backup(&copied)
	stop()
	writers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "backup")
	if err := os.WriteFile(path, copied.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	b := opened(t, path)
	defer b.Close()
	if _, err := b.Get(t.Context(), store.RefOf(&first)); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkApply: durable changes by as many writers at a time as -cpu says
// times 32.
func BenchmarkApply(b *testing.B) {
	s := opened(b, filepath.Join(b.TempDir(), "store"))
	defer s.Close()
	b.SetParallelism(32)
	n := 0
	var mu sync.Mutex
	b.RunParallel(func(pb *testing.PB) {
		mu.Lock()
		n++
		r := storetest.Request(n)
		mu.Unlock()
		if _, _, err := s.Register(b.Context(), r); err != nil {
			b.Error(err)
			return
		}
		for pb.Next() {
			if _, err := s.Apply(b.Context(), store.RefOf(&r), time.Now(), lifecycle.Stop{Due: time.Now()}, lifecycle.Resume{Due: time.Now()}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// TestClosed: whoever writes to a store that is closed is told, and does not wait for ever.
func TestClosed(t *testing.T) {
	s, err := boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.NewEpoch(context.Background()); fault.KindOf(err) != fault.Draining {
		t.Error(err)
	}
}
