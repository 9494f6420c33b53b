package boltstore

import (
	"testing"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/relpath"
)

// TestRecordFromBefore: a record that was written before some of its fields were is
// read without them, and one that has them keeps them.
func TestRecordFromBefore(t *testing.T) {
	p, err := relpath.Parse("x")
	if err != nil {
		t.Fatal(err)
	}
	r := lifecycle.Record{Key: lifecycle.Key{Requester: "a", ID: lifecycle.ID{1}}, Spec: lifecycle.Spec{Source: p, Target: p, Hops: 3}, Delays: 4}
	b, err := encodeRecord(&r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeRecord(b); err != nil || got.Spec.Hops != 3 || got.Delays != 4 {
		t.Errorf("%+v, %v", got, err)
	}
	r.Spec.Third, r.Spec.Fetch, r.Spec.By = "c", true, "d"
	longer, err := encodeRecord(&r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeRecord(longer); err != nil || got.Spec != r.Spec {
		t.Errorf("%+v, %v", got, err)
	}
	r.Warnings, r.Warning, r.Failure.Phase = 2, "look", lifecycle.Post
	for _, third := range []string{"c", ""} { // what is behind it is found with and without it
		r.Spec.Third = third
		if longer, err = encodeRecord(&r); err != nil {
			t.Fatal(err)
		}
		if got, err := decodeRecord(longer); err != nil || got.Spec != r.Spec || got.Warnings != 2 || got.Warning != "look" || got.Failure.Phase != lifecycle.Post {
			t.Errorf("%+v, %v", got, err)
		}
	}
	r.Warnings, r.Warning, r.Failure.Phase = 0, "", 0
	for _, third := range []string{"c", ""} {
		r.Spec.Third, r.Spec.Version = third, "\x01version"
		pinned, err := encodeRecord(&r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeRecord(pinned); err != nil || got.Spec != r.Spec || got.Warnings != 0 {
			t.Errorf("%+v, %v", got, err)
		}
	}
	var w row
	var m more
	if err := open(longer, &w, &m); err != nil || m.Hops != 3 {
		t.Errorf("a program from before third-party copies: %+v, %v", m, err)
	}
	if err := open(b, &w); err != nil {
		t.Fatal(err)
	}
	if b, err = seal(&w); err != nil {
		t.Fatal(err)
	}
	if got, err := decodeRecord(b); err != nil || got.Spec.Hops != 0 || got.Delays != 0 || got.Key != r.Key {
		t.Errorf("%+v, %v", got, err)
	}
}
