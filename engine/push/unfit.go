package push

import (
	"cmp"
	"errors"

	"github.com/pannier/pannier/engine/lifecycle"
)

// What an endpoint will never take must not hold up what comes behind it. So a batch that is
// refused for what it says is halved, down to the record that is at fault, which is passed over.
// But an endpoint that takes nothing at all is at fault itself: then everything waits, and each
// time it is tried again some more of what waits is looked at.

// While none was taken, leastUnfit records in a row are asked after at first, and mostUnfit in
// the end.
const (
	leastUnfit = 16
	mostUnfit  = 256
)

// tries is how many records are asked after while none is taken.
func (p *Pusher) tries() int { return max(leastUnfit, p.further) }

// unfit is the answer that what was sent is bad, or too much.
type unfit struct{ status string }

func (u *unfit) Error() string { return "the endpoint answers " + u.status }

// handed is what has become of the first records of a batch, in their order.
type handed struct {
	taken []*lifecycle.Record
	unfit []refused
	err   error // why the others were not sent, or none was taken
}

// refused is a record that the endpoint does not take, and its answer.
type refused struct {
	*lifecycle.Record
	why error
}

// send brings a batch to the endpoint, in halves if it will not have the whole. An error is not of
// what the batch says.
func (p *Pusher) send(batch []lifecycle.Record, h *handed) error {
	if most := p.cfg.Batch; len(batch) > most {
		if err := p.send(batch[:most], h); err != nil {
			return err
		}
		return p.send(batch[most:], h)
	}
	err := p.post(batch)
	var u *unfit
	switch {
	case err == nil:
		p.seq += uint64(len(batch))
		for i := range batch {
			h.taken = append(h.taken, &batch[i])
		}
	case !errors.As(err, &u):
		return err
	case len(batch) == 1:
		h.unfit = append(h.unfit, refused{&batch[0], err})
		if len(h.taken) == 0 && len(h.unfit) == p.tries() {
			return err
		}
	default:
		half := len(batch) / 2
		if err := p.send(batch[:half], h); err != nil {
			return err
		}
		return p.send(batch[half:], h)
	}
	return nil
}

// handled notes what has become of a batch.
func (p *Pusher) handled(batch []lifecycle.Record, h *handed) {
	if len(h.taken) == 0 {
		if n := len(h.unfit); n > 0 {
			h.err = cmp.Or(h.err, h.unfit[n-1].why)
			p.further = min(2*p.tries(), mostUnfit)
		}
		return
	}
	p.further = 0
	p.cfg.Pushed(len(h.taken), nil)
	for _, r := range h.unfit {
		p.passed++
		p.cfg.Pushed(1, r.why)
		p.cfg.Log.Error("a finished record is not pushed: the endpoint takes others, and never this one", "id", r.Key.ID.String(), "follow", r.Spec.Follow.String(), "requester", r.Key.Requester, "error", r.why, "so far", p.passed)
	}
	p.took(batch[:len(h.taken)+len(h.unfit)])
}
