// Package storetest checks that a store keeps the promises of store.Store. A
// new store calls Run from its tests.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Reopener gives a store after what it held was closed and opened again, as
// after a restart of the node.
type Reopener func(t *testing.T, s store.Store) store.Store

// Run checks a store that open makes, empty, for each test. reopen may be nil
// for a store that forgets.
func Run(t *testing.T, open func(t *testing.T) store.Store, reopen Reopener) {
	for name, test := range map[string]func(*testing.T, store.Store){
		"Register": register, "Apply": apply, "Refused": refused, "Fencing": fencing, "Find": find, "Named": named, "Meanwhile": meanwhile, "Order": order,
		"Purge": purge, "Drop": drop, "Events": events, "Epochs": epochs, "Together": together, "Canceled": canceled,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			defer s.Close()
			test(t, s)
		})
	}
	if reopen != nil {
		t.Run("Reopen", func(t *testing.T) { survive(t, open(t), reopen) })
	}
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// Request is a record as submitted, number i.
func Request(i int) lifecycle.Record {
	source, err := relpath.Parse(fmt.Sprintf("in/%d.dat", i))
	if err != nil {
		panic(err)
	}
	k := lifecycle.Key{Requester: "hosta", ID: lifecycle.ID{1, byte(i >> 16), byte(i >> 8), byte(i)}}
	r, err := lifecycle.Register(k, lifecycle.Sender, lifecycle.Spec{
		Partner: "hostb", Rule: "invoices", Source: source, Target: source, Info: "text", Tasks: [3]uint8{0, 0, 1},
	}, start.Add(time.Duration(i)*time.Second))
	if err != nil {
		panic(err)
	}
	return r
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func added(t *testing.T, s store.Store, i int) lifecycle.Record {
	t.Helper()
	r, made, err := s.Register(t.Context(), Request(i))
	if err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	return r
}

// finish takes a request without tasks all the way, at the given time.
func finish(t *testing.T, s store.Store, r lifecycle.Record, at time.Time) lifecycle.Record {
	t.Helper()
	epoch := must[uint64](t)(s.NewEpoch(t.Context()))
	all := []lifecycle.Event{lifecycle.Claim{Epoch: epoch}}
	for p := lifecycle.Pre; p <= lifecycle.Finished; p++ {
		all = append(all, lifecycle.Advance{Epoch: epoch, To: p, Rank: 7})
	}
	return must[lifecycle.Record](t)(s.Apply(t.Context(), store.RefOf(&r), at, append(all, lifecycle.Conclude{Epoch: epoch})...))
}

// same compares records; times as instants.
func same(a, b lifecycle.Record) bool {
	for _, r := range []*lifecycle.Record{&a, &b} {
		for _, t := range []*time.Time{&r.Spec.NotAt, &r.Due, &r.Registered, &r.Changed, &r.Failure.At} {
			*t = t.UTC()
		}
	}
	return a == b
}

func register(t *testing.T, s store.Store) {
	first := added(t, s, 1)
	got := must[lifecycle.Record](t)(s.Get(t.Context(), store.RefOf(&first)))
	if !same(got, Request(1)) {
		t.Fatalf("%+v became %+v", Request(1), got)
	}
	again, made, err := s.Register(t.Context(), Request(1))
	if err != nil || made || !same(again, first) {
		t.Fatalf("the same again: made %v, %v, %+v", made, err, again)
	}
	other := Request(1)
	other.Spec.Info = "other"
	if _, made, err := s.Register(t.Context(), other); made || fault.KindOf(err) != fault.Exists {
		t.Fatalf("other content under the same key: made %v, %v", made, err)
	}
	finished := finish(t, s, first, start)
	if again, made, err := s.Register(t.Context(), Request(1)); err != nil || made || !same(again, finished) {
		t.Fatalf("the same again after it was done: made %v, %v, %v", made, err, again.State)
	}
	self := Request(1)
	self.Role, self.Side = lifecycle.Requested, lifecycle.Receiver
	if _, made, err := s.Register(t.Context(), self); err != nil || !made {
		t.Fatalf("the other role's record of a request to itself: made %v, %v", made, err)
	}
	if _, err := s.Get(t.Context(), store.Ref{}); fault.KindOf(err) != fault.NotFound {
		t.Fatal(err)
	}
}

func apply(t *testing.T, s store.Store) {
	r := added(t, s, 1)
	now := start.Add(time.Hour)
	want := r
	claim := lifecycle.Claim{Epoch: 9}
	if err := want.Apply(claim, now); err != nil {
		t.Fatal(err)
	}
	got := must[lifecycle.Record](t)(s.Apply(t.Context(), store.RefOf(&r), now, claim))
	kept := must[lifecycle.Record](t)(s.Get(t.Context(), store.RefOf(&r)))
	if !same(got, want) || !same(kept, want) {
		t.Fatalf("want %+v\ngot  %+v\nkept %+v", want, got, kept)
	}
	if _, err := s.Apply(t.Context(), store.Ref{Role: 1}, now, claim); fault.KindOf(err) != fault.NotFound {
		t.Fatal(err)
	}
}

// refused: of several events all are kept or none.
func refused(t *testing.T, s store.Store) {
	r := added(t, s, 1)
	if _, err := s.Apply(t.Context(), store.RefOf(&r), start, lifecycle.Claim{Epoch: 1}, lifecycle.Advance{Epoch: 1, To: lifecycle.Finished}); fault.KindOf(err) != fault.Invalid {
		t.Fatal(err)
	}
	if got := must[lifecycle.Record](t)(s.Get(t.Context(), store.RefOf(&r))); !same(got, r) {
		t.Fatalf("half of it was kept: %+v", got)
	}
}

func fencing(t *testing.T, s store.Store) {
	r := added(t, s, 1)
	ref := store.RefOf(&r)
	must[lifecycle.Record](t)(s.Apply(t.Context(), ref, start, lifecycle.Claim{Epoch: 1}))
	if _, err := s.Apply(t.Context(), ref, start, lifecycle.Claim{Epoch: 2}); err == nil {
		t.Fatal("claimed twice")
	}
	must[lifecycle.Record](t)(s.Apply(t.Context(), ref, start, lifecycle.Recover{Due: start}))
	must[lifecycle.Record](t)(s.Apply(t.Context(), ref, start, lifecycle.Claim{Epoch: 2}))
	if _, err := s.Apply(t.Context(), ref, start, lifecycle.Advance{Epoch: 1, To: lifecycle.Ready}); fault.KindOf(err) != fault.Stale {
		t.Fatalf("a claim that was lost: %v", err)
	}
}

// list is the numbers of the records that match.
func list(t *testing.T, s store.Store, q store.Query) []int {
	t.Helper()
	var found []int
	for r, err := range s.Find(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, int(r.Key.ID[2])<<8|int(r.Key.ID[3]))
	}
	return found
}

func find(t *testing.T, s store.Store) {
	for i := range 6 {
		r := added(t, s, i)
		if i%2 == 0 {
			finish(t, s, r, start.Add(time.Duration(i)*time.Hour))
		}
	}
	for _, c := range []struct {
		q    store.Query
		want []int
	}{
		{store.Query{}, []int{0, 1, 2, 3, 4, 5}},
		{store.Query{States: []lifecycle.State{lifecycle.ToSubmit}}, []int{1, 3, 5}},
		{store.Query{States: []lifecycle.State{lifecycle.Done}}, []int{0, 2, 4}},
		{store.Query{States: []lifecycle.State{lifecycle.Running, lifecycle.InError}}, nil},
		{store.Query{Since: start.Add(2 * time.Hour)}, []int{2, 4}},
		{store.Query{Partner: "hostc"}, nil},
		{store.Query{Rule: "invoices", Partner: "hostb", States: []lifecycle.State{lifecycle.ToSubmit}}, []int{1, 3, 5}},
		{store.Query{Follow: lifecycle.ID{1}}, nil},
	} {
		got := list(t, s, c.q)
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.q, got, c.want)
		}
	}
	if got := list(t, s, store.Query{Limit: 2}); len(got) != 2 {
		t.Errorf("limit 2: %v", got)
	}
	looked := 0
	if list(t, s, store.Query{Rule: "none of it", Looked: func(n int) error { looked += n; return nil }}); looked != 6 {
		t.Errorf("%d of 6 records are said to be looked at", looked)
	}
	enough := fault.New("test", fault.Overloaded, "enough")
	for _, err := range s.Find(t.Context(), store.Query{Rule: "none of it", Looked: func(int) error { return enough }}) {
		if looked = 0; !errors.Is(err, enough) {
			t.Error(err)
		}
	}
	if looked != 0 {
		t.Error("a Find that was told to end has not said so")
	}
}

// meanwhile: a record that ends while records are found is not found twice.
func meanwhile(t *testing.T, s store.Store) {
	const n = 30
	for i := range n {
		added(t, s, i)
	}
	found := map[lifecycle.ID]int{}
	for r, err := range s.Find(t.Context(), store.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if found[r.Key.ID]++; r.State != lifecycle.Done {
			finish(t, s, r, start.Add(time.Hour))
		}
	}
	for i := range n {
		if got := found[Request(i).Key.ID]; got != 1 {
			t.Errorf("request %d was found %d times", i, got)
		}
	}
}

// order: DONE records come those last that were finished first, over more
// records than a store may read at once.
func order(t *testing.T, s store.Store) {
	const n = 2100
	var want []int
	var all sync.WaitGroup
	for i := range n {
		want = append(want, n-1-i)
		all.Go(func() {
			if _, _, err := s.Register(t.Context(), Request(i)); err != nil {
				t.Error(err)
				return
			}
			r := Request(i)
			finish(t, s, r, start.Add(time.Duration(i)*time.Minute))
		})
	}
	all.Wait()
	if got := list(t, s, store.Query{States: []lifecycle.State{lifecycle.Done}}); !slices.Equal(got, want) {
		t.Fatalf("%d records in another order than %d", len(got), len(want))
	}
}

func purge(t *testing.T, s store.Store) {
	for i := range 5 {
		r := added(t, s, i)
		if i < 4 {
			finish(t, s, r, start.Add(time.Duration(i)*time.Hour))
		}
	}
	if n := must[int](t)(s.Purge(t.Context(), start.Add(3*time.Hour), 2)); n != 2 {
		t.Fatalf("%d purged, the limit is 2", n)
	}
	if n := must[int](t)(s.Purge(t.Context(), start.Add(3*time.Hour), 100)); n != 1 {
		t.Fatalf("%d purged, one was left", n)
	}
	if got := list(t, s, store.Query{}); !slices.Equal(got, []int{4, 3}) {
		t.Fatalf("left are %v", got)
	}
	r := Request(0)
	if _, err := s.Events(t.Context(), store.RefOf(&r)); fault.KindOf(err) != fault.NotFound {
		t.Fatalf("its events are still there: %v", err)
	}
	added(t, s, 0) // forgotten: the key is free
}

// drop: only what has failed, and before the time, is dropped; its events too, and
// what is beside it stays.
func drop(t *testing.T, s store.Store) {
	for i := range 3 {
		added(t, s, i)
	}
	failed, waits, done := Request(0), Request(1), Request(2)
	finish(t, s, done, start)
	must[lifecycle.Record](t)(s.Apply(t.Context(), store.RefOf(&failed), start.Add(time.Hour), lifecycle.Cancel{Cause: "no"}))
	for _, c := range []struct {
		r      lifecycle.Record
		before time.Duration
		want   bool
	}{{waits, 9 * time.Hour, false}, {done, 9 * time.Hour, false}, {Request(7), 9 * time.Hour, false}, {failed, time.Hour, false}, {failed, time.Hour + 1, true}, {failed, time.Hour + 1, false}} {
		if got := must[bool](t)(s.Drop(t.Context(), store.RefOf(&c.r), start.Add(c.before))); got != c.want {
			t.Errorf("%v, changed before %v: dropped is %v", c.r.Key.ID, c.before, got)
		}
	}
	if got := list(t, s, store.Query{}); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("left are %v", got)
	}
	if _, err := s.Events(t.Context(), store.RefOf(&failed)); fault.KindOf(err) != fault.NotFound {
		t.Errorf("its events are still there: %v", err)
	}
	added(t, s, 0) // forgotten: the key is free
}

func events(t *testing.T, s store.Store) {
	r := added(t, s, 1)
	ref := store.RefOf(&r)
	must[lifecycle.Record](t)(s.Apply(t.Context(), ref, start.Add(time.Second), lifecycle.Claim{Epoch: 1}))
	must[lifecycle.Record](t)(s.Apply(t.Context(), ref, start.Add(2*time.Second), lifecycle.Interrupt{
		Epoch: 1, Reason: lifecycle.Retrying, Owner: lifecycle.Requester, Due: start.Add(time.Hour),
		Failure: lifecycle.Failure{Kind: fault.Lost, Side: fault.Inferred, Phase: lifecycle.Post, Cause: "the wire"},
	}))
	got := must[[]store.Entry](t)(s.Events(t.Context(), ref))
	if len(got) != 3 || got[0].Event != "Register" || got[1].Event != "Claim" || got[2].Event != "Interrupt" {
		t.Fatalf("%+v", got)
	}
	if e := got[2]; e.State != lifecycle.Interrupted || e.Failure.Kind != fault.Lost || e.Failure.Cause != "the wire" || e.Failure.Phase != lifecycle.Post || !e.At.Equal(start.Add(2*time.Second)) || got[1].Failure.Kind != 0 {
		t.Fatalf("%+v", e)
	}
	for range store.MaxEvents {
		must[lifecycle.Record](t)(s.Apply(t.Context(), ref, start, lifecycle.Resume{Due: start}))
		must[lifecycle.Record](t)(s.Apply(t.Context(), ref, start, lifecycle.Stop{Due: start}))
	}
	got = must[[]store.Entry](t)(s.Events(t.Context(), ref))
	if len(got) != store.MaxEvents || got[len(got)-1].Event != "Stop" || got[0].Seq+store.MaxEvents-1 != got[len(got)-1].Seq {
		t.Fatalf("%d events, %d..%d", len(got), got[0].Seq, got[len(got)-1].Seq)
	}
}

func epochs(t *testing.T, s store.Store) {
	last := uint64(0)
	for range 3 {
		e := must[uint64](t)(s.NewEpoch(t.Context()))
		if e <= last {
			t.Fatalf("%d after %d", e, last)
		}
		last = e
	}
}

// together: of many who claim one request, one gets it; of many who register
// one key, one makes it.
func together(t *testing.T, s store.Store) {
	var made, claimed int
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			r, mine, err := s.Register(t.Context(), Request(1))
			if err != nil {
				t.Error(err)
			}
			_, err = s.Apply(t.Context(), store.RefOf(&r), start, lifecycle.Claim{Epoch: uint64(i + 1)})
			mu.Lock()
			defer mu.Unlock()
			if mine {
				made++
			}
			if err == nil {
				claimed++
			}
		})
	}
	all.Wait()
	if made != 1 || claimed != 1 {
		t.Fatalf("made %d times, claimed %d times", made, claimed)
	}
}

func canceled(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if _, _, err := s.Register(ctx, Request(1)); err != nil && fault.KindOf(err) != fault.Canceled {
			t.Fatal(err)
		}
	}
	r, _, err := s.Register(t.Context(), Request(1))
	if err != nil || !same(r, Request(1)) {
		t.Fatalf("%+v, %v", r, err)
	}
}

func survive(t *testing.T, s store.Store, reopen Reopener) {
	var want []lifecycle.Record
	for i := range 4 {
		r := added(t, s, i)
		if i == 3 {
			r = finish(t, s, r, start)
		}
		want = append(want, r)
	}
	epoch := must[uint64](t)(s.NewEpoch(t.Context()))
	s = reopen(t, s)
	defer s.Close()
	for _, w := range want {
		if got := must[lifecycle.Record](t)(s.Get(t.Context(), store.RefOf(&w))); !same(got, w) {
			t.Fatalf("%+v became %+v", w, got)
		}
	}
	if e := must[uint64](t)(s.NewEpoch(t.Context())); e <= epoch {
		t.Fatalf("epoch %d after %d", e, epoch)
	}
}
