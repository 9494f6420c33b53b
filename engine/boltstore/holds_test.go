package boltstore

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// filled opens a store with so many requests.
func filled(t *testing.T, n int) *Store {
	t.Helper()
	s, err := Open(Config{Path: filepath.Join(t.TempDir(), "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	fill(t, s, n)
	return s
}

// counting notes, when it is written to first, how many transactions read.
type counting struct {
	of   *Store
	n    int
	open int
}

func (c *counting) Write(p []byte) (int, error) {
	if c.n == 0 {
		c.open = c.of.db.Stats().OpenTxN
	}
	c.n += len(p)
	return len(p), nil
}

// TestBackupHoldsNothing: while a backup is sent, no transaction reads, for which growth of the file, and with it
// every commit, would have to wait.
func TestBackupHoldsNothing(t *testing.T) {
	s := filled(t, 10)
	w := &counting{of: s}
	if err := s.Backup(w); err != nil {
		t.Fatal(err)
	}
	if w.n == 0 || w.open > 0 {
		t.Errorf("%d bytes while %d transactions read", w.n, w.open)
	}
}

// TestVerifyInBatches: a look at everything ends its transactions now and then, and sees all the same what is
// wrong at the end.
func TestVerifyInBatches(t *testing.T) {
	const n = 2*batchSize + 1
	s := filled(t, n)
	before, looked := s.db.Stats().TxN, 0
	if err := s.Verify(func(n int) error { looked += n; return nil }); err != nil || looked != 2*n {
		t.Fatal(looked, err)
	}
	if got := s.db.Stats().TxN - before; got < 3+1+3 {
		t.Errorf("%d transactions for %d requests and their events", got, n)
	}
	enough := fault.New("test", fault.Canceled, "enough")
	if err := s.Verify(func(int) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
	last := refKey(store.Ref{Key: lifecycle.Key{Requester: "hosta", ID: nth(n - 1)}, Role: lifecycle.Requester})
	for bucket, key := range map[int][]byte{inEvents: append([]byte{0xff}, last...), inActive: last} {
		if err := s.write(t.Context(), func(c *change) error { c.put(bucket, key, []byte("x")); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(func(int) error { return nil }); err == nil {
			t.Errorf("what is wrong in bucket %d is not found", bucket)
		}
		if err := s.write(t.Context(), func(c *change) error { c.delete(bucket, key); return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNamedLooksAtFew: to find out that there is no request of an id costs as much with many requests as with few.
func TestNamedLooksAtFew(t *testing.T) {
	cost := func(n int) float64 {
		s := filled(t, n)
		return testing.AllocsPerRun(10, func() {
			for _, digits := range []string{lifecycle.ID{0xee, 0xee}.String(), "eeee"} {
				if found, err := s.Named(t.Context(), store.Name{Digits: digits}, 5); err != nil || len(found) > 0 {
					t.Fatal(found, err)
				}
			}
		})
	}
	if few, many := cost(10), cost(5000); many > 3*few {
		t.Errorf("%v allocations among 10 requests, %v among 5000", few, many)
	}
}
