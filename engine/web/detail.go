package web

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// detail is the page of one transfer.
type detail struct {
	row
	Request  *adminpb.Request
	Live     string // address of the stream
	Explain  *adminpb.Explanation
	NextAt   string
	Lanes    []lane
	Attempts []attempt
	Events   []event
	Facts    []fact
	Output   string // of the last task
	Log      []line
	Mute     bool // the node keeps no lines, or not for this visitor
	Actions  actions
	Caller   Caller
}

// fact is a name and a value.
type fact struct{ Name, Value, Title string }

// actions are the words that would do something now.
type actions struct{ Retry, Resume, Pause, Cancel bool }

// event is what happened, as a list shows it.
type event struct {
	At                 time.Time
	Name, State, Phase string
	Safe               string
	Attempt            uint32
	Problem            string
}

// line is one of the node's log.
type line struct {
	At          time.Time
	Level, Text string
}

// attempt is one of the requester's, as far as this end has seen it.
type attempt struct {
	Number      uint32
	From, Until time.Time
	Took        string
	Moved       string
	Problem     string
}

// refIn is the record that an address names.
func refIn(r *http.Request) (*adminpb.Ref, error) {
	ref := &adminpb.Ref{Id: r.PathValue("id"), Requester: r.URL.Query().Get("from")}
	switch role := r.URL.Query().Get("role"); role {
	case "requested":
		ref.Role = adminpb.Request_REQUESTED
	case "requester":
		ref.Role = adminpb.Request_REQUESTER
	case "":
	default:
		return nil, fault.New("find transfer", fault.Invalid, "role %.40q: requester or requested", role)
	}
	return ref, nil
}

func (p *Page) transfer(v *visit) error {
	d, err := p.detail(v)
	if err != nil {
		return err
	}
	d.Live = "/live" + d.Href + map[bool]string{true: "&", false: "?"}[strings.Contains(d.Href, "?")] + "have=" + d.print()
	v.page(http.StatusOK, "transfer", d.Name, "transfers", d)
	return nil
}

// parts are what changes by itself, each a template and the place where it is.
var parts = []string{"head", "actions", "explain", "timeline", "attempts", "events", "log", "facts", "output"}

// print is short, and the same for pages whose parts are: a stream that finds the same says nothing at first.
func (d *detail) print() string {
	sum := sha256.New()
	for _, part := range parts {
		_ = templates().ExecuteTemplate(sum, "detail-"+part, d) // what fails is told by who shows it
	}
	return hex.EncodeToString(sum.Sum(nil)[:6])
}

// liveTransfer follows one transfer.
func (p *Page) liveTransfer(v *visit) error {
	return v.stream(func(s *stream) error {
		d, err := p.detail(v)
		if err != nil {
			return err
		}
		s.silent = len(s.sent) == 0 && v.have() == d.print()
		defer func() { s.silent = false }()
		for _, part := range parts {
			if err := s.tell(part, "detail-"+part, d); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *Page) detail(v *visit) (*detail, error) {
	ref, err := refIn(v.r)
	if err != nil {
		return nil, err
	}
	e, err := p.cfg.Admin.Explain(v.ctx(), ref)
	if err != nil {
		return nil, err
	}
	r := e.GetRequest()
	reply, err := p.cfg.Admin.Events(v.ctx(), refOf(r))
	if err != nil {
		return nil, err
	}
	timeline, err := p.cfg.Admin.Timeline(v.ctx(), &adminpb.TimelineRequest{Ref: refOf(r), Now: true})
	if err != nil {
		return nil, err
	}
	log, err := p.log(v, r)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	d := &detail{
		row: rowOf(r, now), Request: r, Explain: e, Caller: v.caller, Facts: factsOf(e),
		Lanes: lanesOf(timeline, r.GetRole()), Attempts: attemptsOf(r, reply.GetEvents(), now), Actions: actionsOf(r), Output: strings.TrimSpace(r.GetLive().GetOutput()),
	}
	d.Mute = log == nil
	for _, l := range slices.Backward(log.GetLines()) {
		d.Log = append(d.Log, line{l.GetAt().AsTime(), l.GetLevel(), l.GetText()})
	}
	if e.GetAt() != nil {
		d.NextAt = ago(e.GetAt().AsTime(), now)
	}
	for _, x := range slices.Backward(reply.GetEvents()) {
		d.Events = append(d.Events, event{x.GetAt().AsTime(), x.GetEvent(), x.GetState().String(), x.GetPhase(), size(x.GetDurable()), x.GetAttempt(), problemOf(x)})
	}
	return d, nil
}

// log is the node's lines of a request; nil: it keeps none, or they are not for this visitor.
func (p *Page) log(v *visit, r *adminpb.Request) (*adminpb.LogReply, error) {
	if !v.caller.Operate {
		return nil, nil
	}
	log, err := p.cfg.Admin.Log(v.ctx(), refOf(r))
	if absent(err) {
		return nil, nil
	}
	return log, err
}

// problemOf is what an event tells of a failure or a warning.
func problemOf(e *adminpb.Event) string {
	if e.GetWarning() != "" {
		return "warning: " + e.GetWarning()
	}
	return admin.Problem(e.GetFailure())
}

func actionsOf(r *adminpb.Request) (a actions) {
	switch groupOf(r) {
	case running:
		a.Pause, a.Cancel = !r.GetFailing(), true
	case waiting:
		a.Pause, a.Resume, a.Cancel = !r.GetFailing(), r.GetRole() == adminpb.Request_REQUESTER, true
	case paused:
		a.Resume, a.Cancel = true, true
	case failed, cancelled:
		a.Retry, a.Cancel = true, groupOf(r) == failed
	}
	return a
}

func factsOf(e *adminpb.Explanation) (all []fact) {
	r := e.GetRequest()
	add := func(name, value string) {
		if value != "" {
			all = append(all, fact{Name: name, Value: value})
		}
	}
	at := func(name string, t timer, set bool) {
		if set {
			all = append(all, fact{Name: name, Value: t.AsTime().Local().Format("2006-01-02 15:04:05"), Title: stamp(t.AsTime())})
		}
	}
	add("Source", fileName(r.GetSource()))
	add("Target", fileName(r.GetTarget()))
	if r.GetFile() != ownName(r) {
		if r.GetFile() == "" {
			add("File now", "gone")
		} else {
			add("File now", fileName(r.GetFile()))
		}
	}
	add("Digest", r.GetDigest())
	add("Compared", r.GetVerified())
	add("Rule", r.GetRule())
	add("Warning", r.GetWarning())
	add("State", r.GetState().String()+", "+r.GetPhase()+", "+r.GetStep())
	add("Role", strings.ToLower(r.GetRole().String())+", "+strings.ToLower(r.GetSide().String()))
	add("Attempt", admin.Attempt(r, e.GetAttempts()))
	add("Requester", r.GetRequester())
	add("Information", r.GetInfo())
	if r.GetFollow() != r.GetId() {
		add("Follows", r.GetFollow())
	}
	at("Not before", r.GetNotBefore(), r.GetNotBefore() != nil)
	at("Registered", r.GetRegistered(), r.GetRegistered() != nil)
	at("Changed", r.GetChanged(), r.GetChanged() != nil)
	add("Id", r.GetId())
	return all
}

// attemptsOf sums events up by attempt, the last first. What has happened between attempts, such as
// an operator's word, belongs to none.
func attemptsOf(r *adminpb.Request, events []*adminpb.Event, now time.Time) (all []attempt) {
	var low, high int64
	var was adminpb.Request_State
	for _, e := range events {
		if e.GetAttempt() == 0 {
			continue
		}
		if len(all) == 0 || all[len(all)-1].Number != e.GetAttempt() {
			all = append(all, attempt{Number: e.GetAttempt(), From: e.GetAt().AsTime()})
			low, high = e.GetDurable(), e.GetDurable()
		} else if was != adminpb.Request_RUNNING {
			was = e.GetState()
			continue
		}
		was = e.GetState()
		a := &all[len(all)-1]
		a.Until = e.GetAt().AsTime()
		high = max(high, e.GetDurable())
		a.Took, a.Moved = lasted(a.Until.Sub(a.From)), size(max(high-low, 0))
		if e.GetFailure() != nil {
			a.Problem = admin.Problem(e.GetFailure())
		}
	}
	if len(all) > 0 && r.GetState() == adminpb.Request_RUNNING && all[len(all)-1].Number == r.GetAttempt() {
		safe, _ := safeOf(r)
		a := &all[len(all)-1]
		a.Took, a.Moved = lasted(now.Sub(a.From))+" so far", size(max(safe-low, 0))
	}
	slices.Reverse(all)
	return all
}

// lasted is a duration that is over: in milliseconds below a second.
func lasted(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "under 1ms"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return left(d)
}
