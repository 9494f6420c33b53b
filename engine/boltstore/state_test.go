package boltstore

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// TestStateOf: the state alone is that of the whole record, and a damaged record has none.
func TestStateOf(t *testing.T) {
	for _, state := range []lifecycle.State{lifecycle.ToSubmit, lifecycle.Running, lifecycle.Interrupted, lifecycle.InError, lifecycle.Done} {
		r := lifecycle.Record{Key: lifecycle.Key{Requester: "a", ID: lifecycle.ID{1}}, Role: lifecycle.Requested, Side: lifecycle.Receiver, Phase: lifecycle.Moving, State: state}
		b, err := encodeRecord(&r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := stateOf(b); got != state || err != nil {
			t.Errorf("%v, %v; want %v", got, err, state)
		}
		for i := range b {
			b[i] ^= 1
			if _, err := stateOf(b); fault.KindOf(err) != fault.Corrupt {
				t.Fatalf("byte %d is damaged: %v", i, err)
			}
			b[i] ^= 1
		}
	}
}

// BenchmarkFindFew looks for one that has failed beside 100,000 that wait.
func BenchmarkFindFew(b *testing.B) {
	s := must[*Store](b)(Open(Config{Path: filepath.Join(b.TempDir(), "store")}))
	defer s.Close()
	for part := range 100 {
		err := s.write(b.Context(), func(c *change) error {
			for i := range 1000 {
				key := lifecycle.Key{Requester: "node", ID: lifecycle.ID{byte(part), byte(i >> 8), byte(i)}}
				r := must[lifecycle.Record](b)(lifecycle.Register(key, lifecycle.Sender, lifecycle.Spec{Partner: "p", Rule: "r", Follow: key.ID, Info: "of many"}, time.Unix(1000, 0)))
				if part == 50 && i == 500 {
					r.State = lifecycle.InError
				}
				if err := s.put(c, refKey(store.RefOf(&r)), nil, &r, "Register", time.Unix(1000, 0)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		n := 0
		for _, err := range s.Find(b.Context(), store.Query{States: []lifecycle.State{lifecycle.InError}}) {
			if n++; err != nil {
				b.Fatal(err)
			}
		}
		if n != 1 {
			b.Fatal(n)
		}
	}
}
