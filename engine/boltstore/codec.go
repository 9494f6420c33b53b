package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// format is the version of everything in the file. A file of another format is
// refused; migrations copy it first.
const format = 3

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// row is a record as it is stored: a msgpack array, behind it the CRC-32C of
// the array. bbolt checks no pages, so each value checks itself.
type row struct {
	Requester                     string
	ID                            []byte
	Role, Side, State, Phase      uint8
	Partner, Rule, Source, Target string
	Priority                      int8
	NotAt                         int64
	Follow                        []byte
	Info                          string
	Planned, Tasks                []byte
	Begun                         uint64
	Failing                       bool
	File, Proof                   string
	Size                          int64
	Rank, Peak                    int64
	Attempt, Round, Streak        uint32
	FailureKind                   uint16
	FailureSide                   uint8
	FailureCause, FailureTold     string
	FailureAt                     int64
	Reason, Owner                 uint8
	Due                           int64
	Epoch, Version                uint64
	Registered, Changed           int64
}

// more is what records have had since row was made, stored behind it: a record
// from before has none of it, and a program from before passes over it.
type more struct {
	Hops     uint8
	Delays   uint32
	Verified string
	Trace    string
}

// third is what third-party copies have, stored behind more for them only.
type third struct {
	Third string
	Fetch bool
	By    string
}

// later is what few records have, stored behind third for them only.
type later struct {
	FailurePhase uint8
	Warnings     uint32
	Warning      string
}

// pinned is what requests of transfer tasks have, stored behind later for them only.
type pinned struct{ Version string }

// slowed is what requests with a bandwidth of their own have, stored behind pinned for them only.
type slowed struct{ Bandwidth int64 }

// delayed is what requests have that an error task of a requested end has made due again, stored behind slowed for
// them only, until then.
type delayed struct{ After int64 }

// retried is what requests have that a partner wants whose operator has retried them, or that processes have ended
// with, stored behind delayed for them only.
type retried struct{ ByRound, Deaths uint32 }

// entry is one event of a request; a value of the events bucket is a sequence of
// them, each with its own check.
type entry struct {
	Seq          uint64
	At           int64
	Event        string
	State, Phase uint8
	Rank         int64
	Attempt      uint32
	FailureKind  uint16
	FailureSide  uint8
	FailureCause string
}

// entryLater is what few events have, stored behind entry for them only.
type entryLater struct {
	FailurePhase uint8
	Warning      string
}

// nanos is t as stored: ns since 1970, 0 for the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func encodeRecord(r *lifecycle.Record) ([]byte, error) {
	values := []any{&row{
		Requester: r.Key.Requester, ID: r.Key.ID[:],
		Role: uint8(r.Role), Side: uint8(r.Side), State: uint8(r.State), Phase: uint8(r.Phase),
		Partner: r.Spec.Partner, Rule: r.Spec.Rule, Source: r.Spec.Source.String(), Target: r.Spec.Target.String(),
		Priority: r.Spec.Priority, NotAt: nanos(r.Spec.NotAt), Follow: r.Spec.Follow[:], Info: r.Spec.Info,
		Planned: r.Spec.Tasks[:], Tasks: r.Tasks[:], Begun: r.Begun, Failing: r.Failing,
		File: r.File.String(), Proof: r.Proof, Size: r.Size, Rank: r.Rank, Peak: r.Peak, Attempt: r.Attempt, Round: r.Round, Streak: r.Streak,
		FailureKind: uint16(r.Failure.Kind), FailureSide: uint8(r.Failure.Side), FailureCause: r.Failure.Cause, FailureTold: r.Failure.Told, FailureAt: nanos(r.Failure.At),
		Reason: uint8(r.Reason), Owner: uint8(r.Owner), Due: nanos(r.Due), Epoch: r.Epoch, Version: r.Version,
		Registered: nanos(r.Registered), Changed: nanos(r.Changed),
	}, &more{Hops: r.Spec.Hops, Delays: r.Delays, Verified: r.Verified, Trace: r.Trace}}
	t, l := third{r.Spec.Third, r.Spec.Fetch, r.Spec.By}, later{uint8(r.Failure.Phase), r.Warnings, r.Warning}
	p, s, d, a := pinned{r.Spec.Version}, slowed{r.Spec.Bandwidth}, delayed{nanos(r.After)}, retried{r.ByRound, r.Deaths}
	behind := []any{&t, &l, &p, &s, &d, &a}
	switch { // as many as there have to be: the last has something to say
	case a != (retried{}):
	case d != (delayed{}):
		behind = behind[:5]
	case s != (slowed{}):
		behind = behind[:4]
	case p != (pinned{}):
		behind = behind[:3]
	case l != (later{}):
		behind = behind[:2]
	case t != (third{}):
		behind = behind[:1]
	default:
		behind = nil
	}
	values = append(values, behind...)
	return seal(values...)
}

func decodeRecord(b []byte) (r lifecycle.Record, err error) {
	var w row
	var m more
	var t third
	var l later
	var p pinned
	var s slowed
	var d delayed
	var a retried
	if err := open(b, &w, &m, &t, &l, &p, &s, &d, &a); err != nil {
		return r, err
	}
	if len(w.ID) != len(r.Key.ID) || len(w.Follow) != len(r.Spec.Follow) || len(w.Planned) != len(r.Spec.Tasks) || len(w.Tasks) != len(r.Tasks) {
		return r, damaged("a field has the wrong length")
	}
	r = lifecycle.Record{
		Key: lifecycle.Key{Requester: w.Requester, ID: lifecycle.ID(w.ID)}, Role: lifecycle.Role(w.Role), Side: lifecycle.Side(w.Side),
		State: lifecycle.State(w.State), Phase: lifecycle.Phase(w.Phase),
		Spec: lifecycle.Spec{
			Partner: w.Partner, Rule: w.Rule, Priority: w.Priority, NotAt: timeOf(w.NotAt),
			Follow: lifecycle.ID(w.Follow), Info: w.Info, Tasks: [3]uint8(w.Planned), Hops: m.Hops, Third: t.Third, Fetch: t.Fetch, By: t.By, Version: p.Version, Bandwidth: s.Bandwidth,
		},
		Tasks: [3]uint8(w.Tasks), Begun: w.Begun, Failing: w.Failing,
		Proof: w.Proof, Verified: m.Verified, Size: w.Size, Rank: w.Rank, Peak: w.Peak, Attempt: w.Attempt, Round: w.Round, ByRound: a.ByRound, Deaths: a.Deaths, Streak: w.Streak, Delays: m.Delays, After: timeOf(d.After),
		Failure:  lifecycle.Failure{Kind: fault.Kind(w.FailureKind), Side: fault.Side(w.FailureSide), Phase: lifecycle.Phase(l.FailurePhase), Cause: w.FailureCause, Told: w.FailureTold, At: timeOf(w.FailureAt)},
		Warnings: l.Warnings, Warning: l.Warning,
		Reason: lifecycle.Reason(w.Reason), Owner: lifecycle.Role(w.Owner), Due: timeOf(w.Due), Epoch: w.Epoch, Version: w.Version,
		Registered: timeOf(w.Registered), Changed: timeOf(w.Changed), Trace: m.Trace,
	}
	if r.Spec.Source, err = pathOf(w.Source); err != nil {
		return r, err
	}
	if r.File, err = pathOf(w.File); err != nil {
		return r, err
	}
	r.Spec.Target, err = pathOf(w.Target)
	return r, err
}

// pathOf is a stored path; "" is the zero one.
func pathOf(s string) (relpath.Path, error) {
	if s == "" {
		return relpath.Path{}, nil
	}
	p, err := relpath.Parse(s)
	if err != nil {
		return p, damaged(err.Error())
	}
	return p, nil
}

func encodeEntry(e *store.Entry) ([]byte, error) {
	values := []any{&entry{
		Seq: e.Seq, At: nanos(e.At), Event: e.Event, State: uint8(e.State), Phase: uint8(e.Phase), Rank: e.Rank, Attempt: e.Attempt,
		FailureKind: uint16(e.Failure.Kind), FailureSide: uint8(e.Failure.Side), FailureCause: e.Failure.Cause,
	}}
	if l := (entryLater{uint8(e.Failure.Phase), e.Warning}); l != (entryLater{}) {
		values = append(values, &l)
	}
	return seal(values...)
}

func decodeEntry(b []byte) (store.Entry, error) {
	var w entry
	var l entryLater
	err := open(b, &w, &l)
	return store.Entry{
		Seq: w.Seq, At: timeOf(w.At), Event: w.Event, State: lifecycle.State(w.State), Phase: lifecycle.Phase(w.Phase), Rank: w.Rank, Attempt: w.Attempt,
		Failure: lifecycle.Failure{Kind: fault.Kind(w.FailureKind), Side: fault.Side(w.FailureSide), Phase: lifecycle.Phase(l.FailurePhase), Cause: w.FailureCause}, Warning: l.Warning,
	}, err
}

// seal encodes values one behind the other and appends the check.
func seal(values ...any) ([]byte, error) {
	var buf bytes.Buffer
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(&buf)
	enc.UseArrayEncodedStructs(true)
	enc.UseCompactInts(true)
	if err := enc.EncodeMulti(values...); err != nil {
		return nil, fault.New("encode record", fault.Internal, "%w", err)
	}
	return binary.BigEndian.AppendUint32(buf.Bytes(), crc32.Checksum(buf.Bytes(), castagnoli)), nil
}

// open checks b and decodes it; values that are not there any more stay as they are.
// What passes the check was written by seal, so the decoder may trust its lengths.
func open(b []byte, values ...any) error {
	body, err := checked(b)
	if err != nil {
		return err
	}
	dec := msgpack.NewDecoder(bytes.NewReader(body))
	for i, v := range values {
		if err := dec.Decode(v); i > 0 && errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return damaged(err.Error())
		}
	}
	return nil
}

// checked is b without its check, which matches.
func checked(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, damaged("it is too short")
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, damaged("its check does not match")
	}
	return body, nil
}

// stateOf is a record's state, without the rest of it: few may be looked for, of very many that wait.
func stateOf(b []byte) (s lifecycle.State, err error) {
	body, err := checked(b)
	if err != nil {
		return s, err
	}
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(body))
	if _, err = dec.DecodeArrayLen(); err != nil {
		return s, damaged(err.Error())
	}
	for range stateAt {
		if err = dec.Skip(); err != nil {
			return s, damaged(err.Error())
		}
	}
	n, err := dec.DecodeUint8()
	if err != nil {
		return s, damaged(err.Error())
	}
	return lifecycle.State(n), nil
}

// stateAt is how many fields of row are before its State.
const stateAt = 4

func damaged(why string) error {
	return fault.New("read record", fault.Corrupt, "%s: restore the store from a backup", why)
}
