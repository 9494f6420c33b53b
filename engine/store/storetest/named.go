package storetest

import (
	"slices"
	"testing"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
)

// called is request i, registered by that node under that id.
func called(i int, requester string, role lifecycle.Role, id lifecycle.ID) lifecycle.Record {
	r := Request(i)
	r.Key = lifecycle.Key{Requester: requester, ID: id}
	if r.Role = role; role == lifecycle.Requested {
		r.Side, r.Spec.Partner = lifecycle.Receiver, requester
	}
	r.Spec.Follow = id
	return r
}

// named: records are found by part of an id, of every requester and both roles, whether they are done or
// not, and by what else is known of their names.
func named(t *testing.T, s store.Store) {
	id := func(first, second, last byte) lifecycle.ID { return lifecycle.ID{first, second, 15: last} }
	var all []store.Ref
	for i, c := range []struct {
		requester string
		role      lifecycle.Role
		id        lifecycle.ID
		done      bool
	}{
		{"hosta", lifecycle.Requester, id(0x12, 0x34, 1), false}, {"hosta", lifecycle.Requester, id(0x12, 0x34, 2), true},
		{"hosta", lifecycle.Requester, id(0x12, 0x35, 1), false}, {"hosta", lifecycle.Requester, id(0xff, 0xff, 0xff), true},
		{"hosta", lifecycle.Requested, id(0x12, 0x34, 1), true}, {"hostb", lifecycle.Requested, id(0x12, 0x34, 1), false},
		{"hostbb", lifecycle.Requested, id(0x12, 0x34, 1), true}, {"z", lifecycle.Requested, id(0, 0, 0), false},
	} {
		r := called(i, c.requester, c.role, c.id)
		if _, made, err := s.Register(t.Context(), r); err != nil || !made {
			t.Fatal(made, err)
		}
		if all = append(all, store.RefOf(&r)); c.done {
			finish(t, s, r, start)
		}
	}
	for _, c := range []struct {
		name store.Name
		want []int // of all
	}{
		{store.Name{}, []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{store.Name{Digits: "1"}, []int{0, 1, 2, 4, 5, 6}},
		{store.Name{Digits: "123"}, []int{0, 1, 2, 4, 5, 6}},
		{store.Name{Digits: "1234"}, []int{0, 1, 4, 5, 6}},
		{store.Name{Digits: "1235"}, []int{2}},
		{store.Name{Digits: "f"}, []int{3}},
		{store.Name{Digits: id(0xff, 0xff, 0xff).String()}, []int{3}},
		{store.Name{Digits: id(0, 0, 0).String()}, []int{7}},
		{store.Name{Digits: id(0x12, 0x34, 1).String()}, []int{0, 4, 5, 6}},
		{store.Name{Digits: id(0x12, 0x34, 1).String(), Requester: "hosta"}, []int{0, 4}},
		{store.Name{Digits: "12", Requester: "hosta", Role: lifecycle.Requested}, []int{4}},
		{store.Name{Digits: "12", Role: lifecycle.Requester}, []int{0, 1, 2}},
		{store.Name{Requester: "hostb"}, []int{5}},
		{store.Name{Digits: "1236"}, nil},
		{store.Name{Digits: id(0x12, 0x34, 3).String()}, nil},
		{store.Name{Requester: "hostc"}, nil},
	} {
		found, err := s.Named(t.Context(), c.name, len(all)+1)
		var got []int
		for _, ref := range found {
			got = append(got, slices.Index(all, ref))
		}
		slices.Sort(got)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, %v, want %v", c.name, got, err, c.want)
		}
		some, err := s.Named(t.Context(), c.name, 2)
		if err != nil || len(some) != min(2, len(c.want)) {
			t.Errorf("%+v: %v, %v, want 2 at most", c.name, some, err)
		}
	}
}
