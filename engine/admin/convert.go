package admin

import (
	"encoding/hex"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// requestOf is a record and what works on it. Numbers of enums are the same in
// both; a test compares them.
func requestOf(s *engine.Status) *adminpb.Request {
	r := &s.Record
	q := &adminpb.Request{
		Id: r.Key.ID.String(), Requester: r.Key.Requester, Role: adminpb.Request_Role(r.Role), Side: adminpb.Request_Side(r.Side),
		Partner: r.Spec.Partner, Rule: engine.RuleShown(r.Spec.Rule), Source: r.Spec.Source.String(), Target: r.Spec.Target.String(),
		File: r.File.String(), Info: r.Spec.Info, Priority: int32(r.Spec.Priority), Follow: r.Spec.Follow.String(),
		State: adminpb.Request_State(r.State), Phase: r.Phase.Name(r.Side), Step: r.Step().String(), Failing: r.Failing,
		Owner: adminpb.Request_Role(r.Owner), Attempt: r.Attempt, Round: r.Round, Failure: failureOf(&r.Failure, r.Side.Other()),
		Size: r.Size, Durable: r.Rank, Digest: digestOf(r), Verified: r.Verified, Registered: timeOf(r.Registered), Changed: timeOf(r.Changed),
		Due: timeOf(r.Due), NotBefore: timeOf(r.Spec.NotAt), Version: r.Version, Live: liveOf(s.Live),
		Streak: r.Streak, Third: r.Spec.Third, Fetch: r.Spec.Fetch, By: r.Spec.By, Bandwidth: r.Spec.Bandwidth,
		Tasks: tasksOf(r.Spec.Tasks, r.Tasks), Warnings: r.Warnings, Warning: valid(r.Warning),
	}
	if r.Reason != lifecycle.NoReason {
		q.Reason = r.Reason.String()
	}
	q.Durable = max(q.Durable, q.Live.GetDurable()) // which is recorded now and then only
	return q
}

// digestOf is the digest of the whole, if the record has one.
func digestOf(r *lifecycle.Record) string {
	if r.Side == lifecycle.Sender {
		return r.Proof
	}
	w, err := sideeffect.ParseWhole(r.Size, r.Proof)
	if err != nil {
		return ""
	}
	return w.Digest.String()
}

func liveOf(l *engine.Live) *adminpb.Live {
	if l == nil {
		return nil
	}
	return &adminpb.Live{
		Doing: l.Doing, Since: timeOf(l.Since), Durable: l.Durable, Received: l.Received, Total: l.Total, From: l.From,
		Rate: l.Rate, Limit: l.Limit, Output: valid(l.Output),
	}
}

// failureOf is a failure, the other end being on that side of the bytes.
func failureOf(f *lifecycle.Failure, other lifecycle.Side) *adminpb.Failure {
	if f.Kind == 0 {
		return nil
	}
	phase := ""
	if f.Phase != lifecycle.Unknown {
		phase = f.Phase.Name(other)
	}
	return &adminpb.Failure{Phase: phase, Kind: uint32(f.Kind), Name: f.Kind.String(), Side: f.Side.String(), Cause: valid(f.Cause), At: timeOf(f.At)}
}

func eventOf(e *store.Entry, side lifecycle.Side) *adminpb.Event {
	return &adminpb.Event{
		Seq: e.Seq, At: timeOf(e.At), Event: e.Event, State: adminpb.Request_State(e.State), Phase: e.Phase.Name(side),
		Durable: e.Rank, Attempt: e.Attempt, Failure: failureOf(&e.Failure, side.Other()), Warning: valid(e.Warning),
	}
}

func partnerOf(p *engine.PartnerStatus) *adminpb.Partner {
	q := &adminpb.Partner{
		Name: p.Name, Address: p.Address, Connected: p.Connected, Failure: failureOf(&p.Failure, 0), RetryAt: timeOf(p.RetryAt),
		Running: int32(p.Running), Queued: int32(p.Queued), Bridge: p.Bridge,
	}
	if p.RTT > 0 {
		q.Rtt = durationpb.New(p.RTT)
	}
	return q
}

func explanationOf(e *engine.Explanation) *adminpb.Explanation {
	return &adminpb.Explanation{
		Request: requestOf(&e.Status), Summary: valid(e.Summary), Cause: valid(e.Cause), Next: valid(e.Next), At: timeOf(e.At), Do: e.Do,
		Partner: partnerOf(&e.Partner), Attempts: uint32(e.Attempts),
	}
}

// rootOf is where a rule's files are, as the configuration has it.
func rootOf(r *engine.Rule) string {
	if r.Bridge != "" {
		return r.Bridge
	}
	return r.Root
}

func ruleOf(r *engine.Rule) *adminpb.Rule {
	lists := func(l *engine.Lists) *adminpb.TaskLists {
		return &adminpb.TaskLists{Pre: uint32(len(l.Pre)), Post: uint32(len(l.Post)), Error: uint32(len(l.Error))}
	}
	return &adminpb.Rule{
		Name: r.Name, Direction: adminpb.Rule_Direction(r.Direction), Partners: slices.Clone(r.Partners), Root: rootOf(r), Exists: r.Exists.String(),
		Quota: r.Quota, Digest: r.Digest.String(), Compress: r.Compress.String(), Priority: int32(r.Priority),
		Sender: lists(&r.Sender), Receiver: lists(&r.Receiver),
	}
}

// timeOf is absent for the zero time.
func timeOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// readTime is the zero time when absent.
func readTime(what string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, fault.New("read "+what, fault.Invalid, "%w", err)
	}
	return t.AsTime(), nil
}

// readID is the zero id when empty.
func readID(what, text string) (id lifecycle.ID, err error) {
	if text == "" {
		return id, nil
	}
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, fault.New("read "+what, fault.Invalid, "%.40q is not an id of 32 hexadecimal digits", text)
	}
	return lifecycle.ID(b), nil
}

// valid is s as protobuf takes it: UTF-8.
func valid(s string) string { return clipped(s) }
