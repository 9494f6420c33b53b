package boltstore

import (
	"encoding/hex"
	"testing"
	"time"

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
	for _, version := range []string{"", "\x01version"} {
		r.Spec.Version, r.Spec.Bandwidth = version, 5e6
		slowed, err := encodeRecord(&r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeRecord(slowed); err != nil || got.Spec != r.Spec {
			t.Errorf("%+v, %v", got, err)
		}
		var w row
		var m more
		var th third
		var l later
		var p pinned
		if err := open(slowed, &w, &m, &th, &l, &p); err != nil || p.Version != version {
			t.Errorf("a program from before requests had a bandwidth: %+v, %v", p, err)
		}
	}
	for _, bandwidth := range []int64{0, 5e6} {
		r.Spec.Bandwidth, r.After = bandwidth, time.Unix(0, 77)
		delayed, err := encodeRecord(&r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeRecord(delayed); err != nil || got.Spec != r.Spec || !got.After.Equal(r.After) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for _, after := range []time.Time{{}, time.Unix(0, 77)} {
		r.After, r.ByRound, r.Deaths = after, 6, 2
		retried, err := encodeRecord(&r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeRecord(retried); err != nil || got.Spec != r.Spec || !got.After.Equal(after) || got.ByRound != 6 || got.Deaths != 2 {
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

// TestBandwidthAsStored: what a record with a bandwidth has behind it is these bytes, before its check.
func TestBandwidthAsStored(t *testing.T) {
	r := lifecycle.Record{Key: lifecycle.Key{Requester: "a", ID: lifecycle.ID{1}}}
	without, err := encodeRecord(&r)
	if err != nil {
		t.Fatal(err)
	}
	r.Spec.Bandwidth = 5e6
	with, err := encodeRecord(&r)
	if err != nil {
		t.Fatal(err)
	}
	const check = 4
	// third, later and pinned of nothing, and one array of one number
	if got, want := hex.EncodeToString(with[len(without)-check:len(with)-check]), "93a0c2a0"+"930000a0"+"91a0"+"91ce004c4b40"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
