package relay

import (
	"context"
	"net/netip"
	"slices"

	"github.com/pannier/pannier/spec/fault"
)

// rule is an Allow, checked and ready.
type rule struct {
	Allow
	dial, listen []Pattern
	use          *usage
}

func newRules(policy []Allow) ([]*rule, error) {
	rules := make([]*rule, len(policy))
	for i, a := range policy {
		if a.Partner == "" || a.Relay == "" {
			return nil, fault.New("relay policy", fault.Invalid, `entry %d names no Partner or no Relay; "*" is every one`, i+1)
		}
		r := &rule{Allow: a}
		var err error
		if r.dial, err = parsePatterns(a.Dial); err != nil {
			return nil, err
		}
		if r.listen, err = parsePatterns(a.Listen); err != nil {
			return nil, err
		}
		r.use = newUsage(a.Limits.withDefaults())
		rules[i] = r
	}
	return rules, nil
}

func (r *rule) about(partner, relay string) bool {
	return (r.Partner == "*" || r.Partner == partner) && (r.Relay == "*" || r.Relay == relay)
}

// permit is what was found to allow a destination: its patterns, and the limits
// that then hold.
type permit struct {
	patterns []Pattern
	use      *usage
	proxy    bool // the destination is sent a PROXY header first
}

// permitDial finds the first rule that lets a partner reach a destination. Of one by
// name that no rule has, it is the first rule that may have its addresses.
func (h *Hub) permitDial(partner, relay string, to Endpoint) (permit, error) {
	var perhaps permit
	literal, err := netip.ParseAddr(to.Host)
	isAddress := err == nil
	for _, r := range *h.policy.Load() {
		if !r.about(partner, relay) {
			continue
		}
		fit := slices.DeleteFunc(slices.Clone(r.dial), func(p Pattern) bool { return !p.may(to) })
		if len(fit) == 0 {
			continue
		}
		sure := to.Host == "" || slices.ContainsFunc(fit, func(p Pattern) bool {
			if isAddress {
				return p.has(to.Host, literal)
			}
			return p.named(to.Host)
		})
		p := permit{fit, r.use, r.ProxyProtocol}
		if sure {
			return p, nil
		}
		if perhaps.use == nil {
			perhaps = p
		}
	}
	switch {
	case perhaps.use == nil:
		return permit{}, notAllowed(to)
	case isAddress:
		return permit{}, forbidden(to, []netip.Addr{literal})
	}
	return perhaps, nil
}

// permitListen finds the rule that lets a partner have everything in accept
// listened at.
func (h *Hub) permitListen(partner, relay string, accept []Endpoint) (*usage, error) {
	for _, r := range *h.policy.Load() {
		if r.about(partner, relay) && !slices.ContainsFunc(accept, func(e Endpoint) bool { return !r.listens(e) }) {
			return r.use, nil
		}
	}
	return nil, fault.New("relay", fault.Permission, "this node does not listen at %s for this partner and relay", fault.Shown(accept[0].String())).
		Advise("add it to listen of the policy")
}

func (r *rule) listens(e Endpoint) bool {
	one := func(port uint16) error {
		if !slices.ContainsFunc(r.listen, func(p Pattern) bool { return p.listens(e, port) }) {
			return fault.Permission
		}
		return nil
	}
	if e.Scheme == Unix {
		return one(0) == nil
	}
	return e.each(one) == nil
}

func notAllowed(to Endpoint) error {
	return fault.New("relay", fault.Permission, "this node does not connect to %s for this partner and relay", fault.Shown(to.String())).
		Advise("add it to dial of the policy")
}

// addresses resolves a destination's host, once, and leaves the addresses that
// the permit has. Whoever dials uses these.
func (h *Hub) addresses(ctx context.Context, p permit, to Endpoint) ([]netip.AddrPort, error) {
	all := []netip.Addr{}
	if a, err := netip.ParseAddr(to.Host); err == nil {
		all = append(all, a)
	} else if all, err = h.cfg.Network.Lookup(ctx, to.Host); err != nil {
		return nil, &fault.Error{Op: "resolve", Kind: fault.NotFound, Subject: to.Host, Err: err}
	}
	var ok []netip.AddrPort
	for _, a := range all {
		if slices.ContainsFunc(p.patterns, func(q Pattern) bool { return q.has(to.Host, a) }) {
			ok = append(ok, netip.AddrPortFrom(a.Unmap(), to.port()))
		}
	}
	if len(ok) == 0 {
		return nil, forbidden(to, all)
	}
	return ok, nil
}

func forbidden(to Endpoint, all []netip.Addr) error {
	for _, a := range all {
		if isSpecial(plain(a)) {
			return fault.New("relay", fault.Permission, "%s is an address of the host itself, its link or a metadata service, which must be allowed literally", fault.Shown(to.String())).
				Advise("list the address %s itself in dial of the policy", a)
		}
	}
	return notAllowed(to)
}
