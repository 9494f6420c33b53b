package web

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

// partner is how a partner is doing, as the page shows it.
type partner struct {
	Key, Name, Address string
	Status, Word       string // up, down or idle; in words
	Again              string
	Problem, Since     string
	RTT                string
	Running, Queued    int32
	Bridge             bool
	Caller             Caller
}

// partnerList is the page.
type partnerList struct {
	Partners []partner
	Caller   Caller
}

func partnerOf(p *adminpb.Partner, caller Caller, now time.Time) partner {
	sum := sha256.Sum256([]byte(p.GetName()))
	x := partner{
		Key: "p" + hex.EncodeToString(sum[:6]), Name: p.GetName(), Address: p.GetAddress(), Problem: admin.Problem(p.GetFailure()),
		Running: p.GetRunning(), Queued: p.GetQueued(), Bridge: p.GetBridge(), Caller: caller,
	}
	if x.Address == "" {
		x.Address = "calls this node"
	}
	if x.Address == "pipe:" {
		x.Address = "this node itself"
	}
	switch {
	case p.GetConnected():
		x.Status, x.Word = "up", "Connected"
	case p.GetRetryAt() != nil || p.GetFailure() != nil:
		x.Status, x.Word = "down", "Down"
	default:
		x.Status, x.Word = "idle", "Idle"
	}
	if t := p.GetRetryAt(); t != nil && !p.GetConnected() {
		x.Again = "tried again " + ago(t.AsTime(), now)
	}
	if t := p.GetFailure().GetAt(); t != nil {
		x.Since = ago(t.AsTime(), now)
	}
	if t := p.GetRtt(); t != nil {
		x.RTT = strconv.FormatFloat(t.AsDuration().Seconds()*1000, 'f', 1, 64) + " ms"
	}
	return x
}

func (p *Page) partners(v *visit) error {
	all, err := p.allPartners(v)
	if err != nil {
		return err
	}
	v.page(http.StatusOK, "partners", "Partners", "partners", partnerList{all, v.caller})
	return nil
}

func (p *Page) allPartners(v *visit) (all []partner, err error) {
	reply, err := p.cfg.Admin.ListPartners(v.ctx(), &adminpb.ListPartnersRequest{})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for _, x := range reply.GetPartners() {
		all = append(all, partnerOf(x, v.caller, now))
	}
	return all, nil
}

func (p *Page) livePartners(v *visit) error {
	return v.stream(func(s *stream) error {
		all, err := p.allPartners(v)
		for _, x := range all {
			if err == nil {
				err = s.tell(x.Key, "partner-state", x)
			}
		}
		return err
	})
}
