package push

import (
	"errors"

	"github.com/pannier/pannier/engine/lifecycle"
)

// What an endpoint will never take must not hold up what comes behind it. So a batch that is
// refused for what it says is halved, down to the record that is at fault, which is passed over.
// But an endpoint that takes nothing at all is at fault itself: then everything waits.

// mostUnfit is how many records in a row are asked after while none was taken.
const mostUnfit = 16

// unfit is the answer that what was sent is bad, or too much.
type unfit struct{ status string }

func (u *unfit) Error() string { return "the endpoint answers " + u.status }

// handed is what has become of the first records of a batch, in their order.
type handed struct {
	taken  []*lifecycle.Record
	unfit  []*lifecycle.Record
	reason error // of the last of unfit
	err    error // why the others were not sent, or none was taken
}

// send brings a batch to the endpoint, in halves if it will not have the whole. An error is not of
// what the batch says.
func (p *Pusher) send(batch []lifecycle.Record, h *handed) error {
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
		h.unfit, h.reason = append(h.unfit, &batch[0]), err
		if len(h.taken) == 0 && len(h.unfit) == mostUnfit {
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
		if h.err == nil {
			h.err = h.reason
		}
		return
	}
	p.cfg.Pushed(len(h.taken), nil)
	for _, r := range h.unfit {
		p.passed++
		p.cfg.Pushed(1, h.reason)
		p.cfg.Log.Error("a finished record is not pushed: the endpoint takes others, and never this one", "id", r.Key.ID, "requester", r.Key.Requester, "error", h.reason, "so far", p.passed)
	}
	p.took(batch[:len(h.taken)+len(h.unfit)])
}
