package boltstore

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/notefile"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// grown is the bytes of a store with so many requests.
func grown(t *testing.T, n int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := Open(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used, err := notefile.Used(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return b[:used]
}

// nth is the id of a request of fill.
func nth(i int) lifecycle.ID { return lifecycle.ID{byte(i), byte(i >> 8)} }

// fill registers so many requests.
func fill(t *testing.T, s *Store, n int) {
	t.Helper()
	name, _ := relpath.Parse("in/a")
	var all sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		key := lifecycle.Key{Requester: "hosta", ID: nth(i)}
		r, err := lifecycle.Register(key, lifecycle.Sender, lifecycle.Spec{Partner: "hostb", Rule: "r", Source: name, Target: name, Follow: key.ID}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			_, _, err := s.Register(t.Context(), r)
			errs <- err
		})
	}
	all.Wait()
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamagedFile: whatever is wrong with a file, opening it, verifying it and
// reading all of it end with an error or with what was written, and never in a panic, of which
// bbolt has some in goroutines of its own.
func TestDamagedFile(t *testing.T) {
	whole := grown(t, 200)
	path := filepath.Join(t.TempDir(), "store.db")
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(whole)
	if err := Verify(path); err != nil {
		t.Fatalf("undamaged: %v", err)
	}
	rnd := rand.New(rand.NewPCG(1, 30))
	refused, found, harmless := 0, 0, 0
	for i := range 200 {
		b := append([]byte(nil), whole...)
		page := 2 + rnd.IntN(len(b)/os.Getpagesize()-2)
		switch at := page * os.Getpagesize(); i % 4 {
		case 0: // the head of a page, where references and lengths are
			b[at+rnd.IntN(64)] ^= byte(1 + rnd.IntN(255))
		case 1:
			b[rnd.IntN(len(b))] ^= byte(1 + rnd.IntN(255))
		case 2:
			clear(b[at : at+os.Getpagesize()])
		case 3:
			b = b[:rnd.IntN(len(b))]
		}
		write(b)
		verified := Verify(path)
		s, err := Open(Config{Path: path})
		if err != nil {
			if kind := fault.KindOf(err); kind != fault.Corrupt || verified == nil {
				t.Fatalf("damage %d: opening it: %v, verifying it: %v", i, err, verified)
			}
			refused++
			continue
		}
		n, bad := 0, error(nil)
		for r, err := range s.Find(context.Background(), store.Query{}) {
			if err != nil {
				bad = err
				break
			}
			if _, err := s.Events(t.Context(), store.RefOf(&r)); err != nil {
				bad = err
			}
			n++
		}
		if err := s.Close(); err != nil {
			t.Fatalf("damage %d: closing it: %v", i, err)
		}
		switch {
		case bad != nil && verified != nil:
			found++
		case bad == nil && (n == 200 || len(b) < len(whole) && n == 0 || n == 199): // 199: the meta page of the last commit
			harmless++
		default:
			t.Errorf("damage %d: %d requests, %v; verifying it: %v", i, n, bad, verified)
		}
	}
	t.Logf("%d refused, %d found by their checks, %d harmless", refused, found, harmless)
}
