package engine

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// A commission is what one node asks of another: to make a request to a third one. The
// document is spec/copy.md.

// Commission is what a partner wants this node to do, and to tell of it.
type Commission struct {
	ID             lifecycle.ID // of the caller's own request
	Third          string       // the node to make a request to
	Fetch          bool         // the file comes from there; else it goes there
	Rule           string       // of the node asked; empty: the one that fits
	Source, Target relpath.Path
	Priority       int8
	Follow         lifecycle.ID
	Info           string
	Hops           uint8
	Bandwidth      int64

	Probe  bool   // only to say whether it would
	Known  bool   // it was answered before: what is not there any more is not made again
	Round  uint32 // retries of the caller's operator
	Cancel string // why the caller's operator does not want it any more; empty: it does
	Seen   uint64 // version of the record that the caller has heard of: answer when there is a newer one, or after a while
}

// Commissioned is how the request of a commission is. All of it travels.
type Commissioned struct {
	ID       lifecycle.ID // of the request, at the node that has made it
	Rule     string       // it was made by
	State    lifecycle.State
	Reason   string // why it waits
	Version  uint64
	Rank     int64 // bytes that are safe at the receiver
	Size     int64 // -1: not known
	Digest   string
	Verified string
	Failure  lifecycle.Failure

	Bandwidth int64 // it has, or would have: a node from before requests had one says 0
}

// commissionHold is how long the answer to a commission waits for news, and commissionLook how
// often it looks for progress; the end is heard of at once.
const (
	commissionHold = 15 * time.Second
	commissionLook = time.Second
)

// Commission serves a commission of a partner. Permission: this partner may have no such
// request made. NotFound: it was made, and is not known any more.
func (e *Engine) Commission(ctx context.Context, partner string, c Commission) (Commissioned, error) {
	ref := store.Ref{Key: lifecycle.Key{Requester: e.cfg.Node, ID: commissionID(partner, c.ID)}, Role: lifecycle.Requester}
	st, err := e.Get(ctx, ref)
	switch kind := fault.KindOf(err); {
	case err != nil && kind != fault.NotFound:
		return Commissioned{}, err
	case err != nil && c.Known:
		return Commissioned{}, fault.New("commission", fault.NotFound, "the request is not known here any more: it has ended, and its record was purged")
	case err != nil || c.Probe:
		rule, err := e.consent(partner, &c)
		if err != nil || c.Probe {
			return Commissioned{Rule: rule, Size: -1, Bandwidth: c.Bandwidth}, err
		}
		if c.Cancel != "" {
			return Commissioned{}, fault.New("commission", fault.Canceled, "it is cancelled before it was made")
		}
		if st.Record, err = e.commission(ctx, partner, rule, ref.Key.ID, &c); err != nil {
			return Commissioned{}, err
		}
	}
	switch r := &st.Record; {
	case r.Spec.By != partner:
		return Commissioned{}, fault.New("commission", fault.Exists, "another request has that id")
	case c.Cancel != "" && !r.State.Final():
		if r, err := e.Cancel(ctx, ref, byPartner(partner)+c.Cancel); err == nil {
			st.Record = r
		} // else it is too late: what becomes of it is told
	case r.State == lifecycle.InError && c.Cancel == "" && c.Round > r.ByRound && !cancelledByOwn(r):
		if st.Record, err = e.recommission(ctx, partner, r, c.Round); err != nil {
			return Commissioned{}, err
		}
	}
	return e.news(ctx, ref, st, c.Seen)
}

// byPartner is how the reason begins of what was cancelled by a partner's commission.
func byPartner(partner string) string { return "by " + partner + ": " }

// cancelledByOwn: by this node's operator, and not by the partner that wants the request, which does not overrule that.
func cancelledByOwn(r *lifecycle.Record) bool {
	f := &r.Failure
	return f.Kind == fault.Canceled && f.Side == fault.Here && !strings.HasPrefix(f.Cause, byPartner(r.Spec.By))
}

// commissionID is the id of the request that a partner's commission becomes: nobody else's
// commission leads to it.
func commissionID(partner string, id lifecycle.ID) (made lifecycle.ID) {
	sum := sha256.Sum256([]byte("pannier commission\x00" + partner + "\x00" + string(id[:])))
	copy(made[:], sum[:])
	return made
}

// consent is the rule by which this node does what the partner wants: one that its operator
// has listed for that partner, of that direction, for the third node.
func (e *Engine) consent(partner string, c *Commission) (string, error) {
	const op = "commission"
	book := e.Book()
	p, err := book.Partner(partner)
	if err != nil {
		return "", err
	}
	if len(p.ThirdParty) == 0 {
		return "", fault.New(op, fault.Permission, "%s makes no requests for %s: its operator lists rules for that in third_party of the partner", fault.Shown(e.cfg.Node), fault.Shown(partner))
	}
	want := Send
	if c.Fetch {
		want = Receive
	}
	if _, err := book.Partner(c.Third); err != nil {
		return "", e.makesNone(op, want, c.Third, partner)
	}
	var fit []string
	for _, name := range p.ThirdParty {
		if r := book.Rules[name]; r != nil && r.Direction == want && r.Allows(c.Third) && (c.Rule == "" || c.Rule == name) {
			fit = append(fit, name)
		}
	}
	switch {
	case len(fit) == 0:
		return "", e.makesNone(op, want, c.Third, partner)
	case len(fit) > 1:
		return "", fault.New(op, fault.Invalid, "%d rules of %s fit: name one of %s", len(fit), fault.Shown(e.cfg.Node), fault.Shown(strings.Join(fit, ", ")))
	}
	return fit[0], nil
}

// makesNone is the same whatever is missing: who asks does not learn what partners there are.
func (e *Engine) makesNone(op string, want Direction, third, partner string) error {
	return fault.New(op, fault.Permission, "%s may make no request to %s for %s: its operator has to list a rule of direction %v that allows %s in third_party of partner %s",
		fault.Shown(e.cfg.Node), fault.Shown(third), fault.Shown(partner), fault.Shown(want.String()), fault.Shown(third), fault.Shown(partner))
}

// commission makes the request.
func (e *Engine) commission(ctx context.Context, partner, rule string, id lifecycle.ID, c *Commission) (lifecycle.Record, error) {
	if err := e.roomFor(partner); err != nil {
		return lifecycle.Record{}, err
	}
	r, made, err := e.Submit(ctx, Order{ID: id, Partner: c.Third, Rule: rule, Source: c.Source, Target: c.Target, Priority: c.Priority,
		Follow: c.Follow, Info: c.Info, Hops: c.Hops, By: partner, ByRound: c.Round, Bandwidth: c.Bandwidth})
	if err != nil || !made {
		e.unreserve(partner)
	} else {
		e.log.Info("made for a partner", "id", r.Key.ID.String(), "follow", r.Spec.Follow.String(), "by", partner, "partner", c.Third, "rule", rule)
	}
	return r, err
}

// recommission goes on with what has failed, by the word of the partner's operator: if this node would still make
// it for that partner.
func (e *Engine) recommission(ctx context.Context, partner string, r *lifecycle.Record, round uint32) (lifecycle.Record, error) {
	is := Commission{Third: r.Spec.Partner, Fetch: r.Side == lifecycle.Receiver, Rule: r.Spec.Rule}
	if _, err := e.consent(partner, &is); err != nil {
		return *r, err
	}
	if err := e.roomAgainFor(partner); err != nil {
		return *r, err
	}
	defer e.unreserve(partner)
	ref := store.RefOf(r)
	again, err := e.idle(ctx, ref, lifecycle.Retry{Due: e.dueOf(ref), By: round})
	if err != nil && fault.KindOf(err) == fault.Stale { // the same word by another connection
		return e.cfg.Store.Get(ctx, ref)
	}
	return again, err
}

// roomFor reserves a record for a partner's commission, or refuses what would be one too many.
func (e *Engine) roomFor(partner string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.mayMake(partner); err != nil {
		return err
	}
	if failed := e.records[partner][classMadeFailed]; failed >= failedToOpen*e.mostOpen(partner) {
		return fault.New("commission", fault.Overloaded, "%d requests that were made for this partner have failed here, as many as are kept: an operator has to retry or purge them first", failed)
	}
	e.count(partner, classNone, classMade)
	return nil
}

// roomAgainFor reserves a place among the open ones for a request that was made for the partner and has
// failed, until it is open or is not, or refuses what would be one too many.
func (e *Engine) roomAgainFor(partner string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.mayMake(partner)
	if err == nil {
		e.count(partner, classNone, classMade)
	}
	return err
}

// mayMake refuses one more open request that is made for the partner. It says how many may be, not how many are
// counted: one that has just opened is counted beside its reservation for a moment. e.mu is held.
func (e *Engine) mayMake(partner string) error {
	if most := e.mostOpen(partner); e.records[partner][classMade] >= most {
		return fault.New("commission", fault.Overloaded, "%d requests that were made for this partner are open here, as many as may: those have to end first", most)
	}
	return nil
}

// unreserve gives up what roomFor or roomAgainFor has reserved.
func (e *Engine) unreserve(partner string) {
	e.mu.Lock()
	e.count(partner, classMade, classNone)
	e.mu.Unlock()
}

// news answers when the request is over, or is another than the caller has heard of, or
// after a while.
func (e *Engine) news(ctx context.Context, ref store.Ref, st Status, seen uint64) (Commissioned, error) {
	first := safe(&st)
	for began := time.Now(); !st.State.Final() && st.Version == seen && safe(&st) == first && time.Since(began) < commissionHold; {
		look, cancel := context.WithTimeout(ctx, commissionLook)
		_, err := e.Wait(look, ref)
		cancel()
		if err != nil && (ctx.Err() != nil || look.Err() == nil) {
			return Commissioned{}, err
		}
		if st, err = e.Get(ctx, ref); err != nil {
			return Commissioned{}, err
		}
	}
	r := &st.Record
	return Commissioned{
		ID: r.Key.ID, Rule: r.Spec.Rule, State: r.State, Reason: reasonOf(r), Version: r.Version, Rank: safe(&st), Size: sizeOf(&st),
		Digest: digestOf(r), Verified: r.Verified, Failure: toTell(r.Failure), Bandwidth: r.Spec.Bandwidth,
	}, nil
}

// safe is how many bytes are, as far as is known just now.
func safe(s *Status) int64 {
	if s.Live != nil {
		return max(s.Rank, s.Live.Durable)
	}
	return s.Rank
}

func sizeOf(s *Status) int64 {
	if s.Live != nil && s.Live.Total > 0 {
		return s.Live.Total
	}
	return s.Size
}

func reasonOf(r *lifecycle.Record) string {
	if r.Reason == lifecycle.NoReason {
		return ""
	}
	return r.Reason.String()
}

// digestOf is the digest of the whole, if the record has one.
func digestOf(r *lifecycle.Record) string {
	if r.Side == lifecycle.Sender {
		return r.Proof
	}
	w, err := sideeffect.ParseWhole(r.Size, r.Proof)
	if err != nil || w.Digest.IsZero() {
		return ""
	}
	return w.Digest.String()
}

// words says how the request is, for who waits for it.
func (c *Commissioned) words(node string) string {
	text := fmt.Sprintf("at %s: %v", node, c.State)
	if c.Reason != "" {
		text += ", " + c.Reason
	}
	if c.Failure.Cause != "" {
		text += ": " + c.Failure.Cause
	}
	return text
}
