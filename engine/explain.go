package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Explain says why a request is as it is and what happens next.
func (e *Engine) Explain(ctx context.Context, ref store.Ref) (Explanation, error) {
	s, err := e.Get(ctx, ref)
	if err != nil {
		return Explanation{}, err
	}
	x := Explanation{Status: s}
	e.mu.Lock()
	x.Partner = e.partner(s.Spec.Partner, e.queue.waiting()[s.Spec.Partner])
	w := e.queue.all[ref]
	ready, windowed := false, false
	if w != nil {
		x.At, ready, windowed = w.due, w.sleep < 0, w.dated && (!w.start || w.due.After(w.asked))
	}
	l := e.queue.line(s.Spec.Partner)
	if w != nil {
		l = e.queue.line(w.partner)
	}
	full, crowded := e.full(ref, l)
	silent := e.runs[ref] != nil && e.runs[ref].aside
	alone := e.queue.alone(time.Now()) || ready && w.suspect
	shut := w != nil && e.window(w, e.now()).After(e.now())
	rule, _ := e.book.Rule(s.Spec.Rule)
	e.mu.Unlock()
	if rule != nil {
		x.Attempts = rule.Retry.filled().Attempts
	}
	x.Cause = cause(&s.Record)
	id := s.Key.ID.String()
	switch s.State {
	case lifecycle.Done:
		x.Summary, x.Cause = "done at this end: "+done(&s.Record), s.Warning
		x.Next = "nothing; the record is kept for a while and then purged"
	case lifecycle.InError:
		x.Summary = failedWhen(&s.Record)
		x.Next = "nothing, until an operator retries it. A retry goes on from this phase: what is recorded done is not done again"
		if s.Failure.Kind == fault.Canceled && s.Phase < lifecycle.Committed {
			x.Next = "nothing, until an operator retries it. What had arrived was removed: a retry sends all bytes, and does no task again that is recorded done"
		}
		x.Do = []string{"events " + id, "retry " + id}
		switch {
		case !cancelledThere(&s.Record):
		case s.Role == lifecycle.Requested:
			x.Next, x.Do = "nothing here: only an operator at "+s.Spec.Partner+" can retry it", x.Do[:1]
		default:
			x.Next = "nothing: an operator at " + s.Spec.Partner + " has to retry it there first, and then one here"
		}
		if rule == nil {
			x.Next += ". Rule " + RuleShown(s.Spec.Rule) + " is not configured any more"
		}
	case lifecycle.Running:
		x.Summary = "runs"
		if s.Live != nil && s.Live.Doing != "" {
			x.Summary = s.Live.Doing
			if s.Live.Limit != "" {
				x.Cause = "held up by the " + s.Live.Limit
			}
		}
		x.Next = "it goes on"
		x.Do = []string{"watch " + id, "pause " + id}
		if silent { // nor is an operator's word heard
			x.Cause = "the file system of its rule's root does not answer"
			x.Next = "it goes on when that answers or is unmounted; until then it has no place of those that may run at a time"
			x.Do = x.Do[:1]
		}
	case lifecycle.ToSubmit, lifecycle.Interrupted:
		x.Do = []string{"events " + id}
		x.waits(e.now(), full, crowded, alone, ready, windowed)
		if stoppedHere(&s.Record) {
			x.Do = []string{"resume " + id}
		} else if !shut && hurried(&s.Record, e.now()) {
			x.Do = append(x.Do, "resume "+id) // now, and not when it is due
		}
		if s.Phase < lifecycle.Committed {
			x.Do = append(x.Do, "cancel "+id)
		}
	}
	return x, nil
}

// hurried reports whether a requester's request would begin earlier by its operator's resume,
// if it is not for a window.
func hurried(r *lifecycle.Record, now time.Time) bool {
	return r.Role == lifecycle.Requester && !r.Failing && r.Due.After(now) && (r.State == lifecycle.Interrupted || asleep(r, now))
}

// waits explains a request that waits. windowed: it does so until a window of its rule opens.
func (x *Explanation) waits(now time.Time, full, crowded, alone, ready, windowed bool) {
	r := &x.Record
	p := &x.Partner
	switch {
	case r.Failing:
		x.Summary = "has failed, and has error tasks left"
		x.Next = "they run"
	case stoppedHere(r):
		x.Summary, x.Cause = "paused by this node's operator", "" // what went wrong before is not why
		x.Next, x.At = "nothing until it is resumed; if nobody does, it is given up then", r.Due
	case r.Reason == lifecycle.Stopped:
		x.Summary = "stopped by the other node's operator"
		x.Next = "this node asks again when it is due"
	case r.Role == lifecycle.Requested && r.After.After(now):
		x.Summary, x.Next, x.At = "waits, because an error task has made it due again later", "the requester calls; before that time in vain", r.After
	case r.Role == lifecycle.Requested && awaitsRoot(r):
		x.Summary = "waits for the file system of its rule's root, which does not answer"
		x.Next = "the requester, which was told so, calls again; given up when it is due"
	case r.Role == lifecycle.Requested:
		x.Summary = "waits for the requester to call"
		x.Next = "the requester calls; given up when it is due"
	case x.At.After(now) && windowed && r.Reason == lifecycle.Scheduled && r.Due.After(now):
		x.Summary = "waits for its start time, " + r.Due.UTC().Format(time.RFC3339) + ", and then for the rule's time window"
		x.Next = "it starts when that opens"
	case x.At.After(now) && windowed:
		x.Summary, x.Next = "waits for the rule's time window", "it starts when that opens"
	case x.At.After(now) && r.Reason == lifecycle.Scheduled:
		x.Summary, x.Next = "waits for its start time", "it starts when it is due"
	case x.At.After(now) && awaitsRoot(r):
		x.Summary = "waits for the file system of its rule's root, which does not answer"
		if r.Failure.Side != fault.Here {
			x.Summary = "waits for the file system of " + r.Spec.Partner + "'s root of its rule, which does not answer"
		}
		x.Next = "it is tried again when it is due, which counts as no attempt, until it answers or is unmounted"
	case x.At.After(now) && r.Reason == lifecycle.Retrying && r.Failure.Kind == fault.Overloaded && r.Failure.Side == fault.Peer:
		x.Summary, x.Next = "waits because the partner has asked for time", "it is tried again when it is due"
	case x.At.After(now) && r.Reason == lifecycle.Retrying:
		x.Summary = fmt.Sprintf("waits for another attempt; of the %d in a row that may make no progress %d have", x.Attempts, r.Streak)
		if r.Streak == 0 {
			x.Summary = fmt.Sprintf("waits for another attempt; the last one has got further, which is not counted: %d in a row may make no progress", x.Attempts)
		}
		x.Next = "it is tried again when it is due"
	case x.At.After(now) && r.Delays > 0 && r.Due.After(now):
		x.Summary, x.Next = "waits, because an error task has made it due again later", "it starts when it is due"
	case x.At.After(now):
		x.Summary, x.Next = "waits until it is due", "it starts then"
	case !p.Connected && p.Address == "":
		x.Summary = "waits for the partner, of which the configuration has no address any more"
		x.Cause, x.Next, x.At = "", "it starts when the partner is in the configuration again, with an address", time.Time{}
	case !p.Connected && p.Failure.Kind == fault.Overloaded && p.Failure.Side == fault.Peer:
		x.Summary = "waits because the partner has asked for time, for all requests"
		x.Cause, x.Next, x.At = p.Failure.Cause, "the partner is called again; the request starts when it answers", p.RetryAt
	case !p.Connected && p.Failure.Kind != 0:
		x.Summary = "waits for the partner, which cannot be reached"
		x.Cause, x.Next, x.At = p.Failure.Cause, "the partner is tried again; the request starts when it answers", p.RetryAt
		x.Do = append(x.Do, "partner test "+p.Name)
	case !p.Connected:
		x.Summary, x.Next = "waits for the connection to the partner", "it starts when the partner answers"
	case alone:
		x.Summary, x.Next, x.At = "waits because one is suspected to end the process, this or another", "it starts when the one is alone, or is over", time.Time{}
	case crowded:
		x.Summary, x.Next, x.At = "waits for its turn: as many run with this partner as may", "it starts when one of them is over", time.Time{}
	case full || ready:
		x.Summary, x.Next, x.At = "waits for its turn: as many run as may", "it starts when one of them is over", time.Time{}
	default:
		x.Summary, x.Next = "is about to start", "it starts"
	}
}

// failedWhen says at which end a request has failed, and how far it was. Where the other end has
// said how far it was, this end's phase says little: its failure may have come with the answer to
// the first call.
func failedWhen(r *lifecycle.Record) string {
	here := r.Phase.Name(r.Side)
	switch f := &r.Failure; {
	case f.Kind == fault.Canceled:
		return fmt.Sprintf("cancelled %s (phase %s)", r.When(), here)
	case f.Side == fault.Here || f.Phase == lifecycle.Unknown:
		return fmt.Sprintf("failed %s (phase %s)", r.When(), here)
	}
	there := r.Side.Other()
	text := fmt.Sprintf("failed at %s, %s (phase %s there, %s here)", r.Spec.Partner, r.WhenIn(r.Failure.Phase), r.Failure.Phase.Name(there), here)
	switch {
	case there == lifecycle.Sender:
	case r.Failure.Phase >= lifecycle.Committed:
		text += ". The file is there, under its name"
	case r.Failure.Phase == lifecycle.Whole:
		text += ". All bytes are there, but the file has no name"
	}
	return text
}

// cause is a record's failure as people read it.
func cause(r *lifecycle.Record) string {
	if r.Failure.Kind == 0 {
		return ""
	}
	where := "here"
	switch {
	case r.Failure.Side != 0:
		where = "at " + r.Spec.Partner
	case r.Failure.Kind == fault.QuotaExceeded && r.Side == lifecycle.Sender: // which has none of its own
		where = "the quota of " + r.Spec.Partner + "'s rule"
	}
	text := fmt.Sprintf("%v, %s", r.Failure.Kind, where)
	if r.Failure.Cause != "" {
		text += ": " + r.Failure.Cause
	}
	return text
}

func done(r *lifecycle.Record) string {
	what := "received and stored"
	if from, to, ok := Between(&r.Spec); ok {
		what = "sent by " + from + ", stored and verified at " + to
	} else if r.Side == lifecycle.Sender {
		what = "sent, stored and verified at " + r.Spec.Partner
	}
	text := fmt.Sprintf("%d bytes %s, all tasks run", r.Size, what)
	switch {
	case r.Warnings == 1:
		text += ", one with a warning"
	case r.Warnings > 1:
		text += fmt.Sprintf(", %d with warnings, of which the last is", r.Warnings)
	}
	return text
}
