package rpc

import (
	"slices"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// With attaches side effects to a call, in the order of their index at the
// server. Each descriptor belongs to the call until it returns, and another call of the
// connection that has it is refused; then its Result says how it went. Several With on one call add up, to at most MaxEffects.
//
// The option works on connections made by Dial. Any other connection fails the
// call instead of making it without its side effects.
func With(effects ...*sideeffect.Descriptor) grpc.CallOption {
	return withOption{CallOption: stray, effects: effects}
}

var stray = grpc.ForceCodecV2(strayOption{})

// withOption is both: what Dial's connections look for, and an ordinary option
// that breaks the call on other connections.
type withOption struct {
	grpc.CallOption
	effects []*sideeffect.Descriptor
}

// split takes the side effects out of the options of a call. Without any it
// returns opts itself and allocates nothing.
func split(opts []grpc.CallOption) ([]*sideeffect.Descriptor, []grpc.CallOption) {
	i := slices.IndexFunc(opts, isWith)
	if i < 0 {
		return nil, opts
	}
	var effects []*sideeffect.Descriptor
	for _, o := range opts[i:] {
		switch w, ok := o.(withOption); {
		case ok && effects == nil:
			effects = slices.Clip(w.effects)
		case ok:
			effects = append(effects, w.effects...)
		}
	}
	return effects, slices.DeleteFunc(slices.Clone(opts), isWith)
}

func isWith(o grpc.CallOption) bool { _, ok := o.(withOption); return ok }

// checkEffects refuses what cannot work before anything is sent.
func checkEffects(kinds sideeffect.Kinds, effects []*sideeffect.Descriptor) error {
	const op = "attach side effects"
	if len(effects) > MaxEffects {
		return fault.New(op, fault.Invalid, "%d side effects: attach at most %d to one call", len(effects), MaxEffects)
	}
	for i, d := range effects {
		if d == nil {
			return fault.New(op, fault.Invalid, "side effect %d is nil: pass the address of a Descriptor", i)
		}
		if j := slices.Index(effects, d); j != i {
			return fault.New(op, fault.Invalid, "side effects %d and %d are one Descriptor: each needs its own", j, i)
		}
		if _, err := kinds.Of(d); err != nil {
			return fault.Wrap(op, "", err)
		}
	}
	return nil
}

// hasCodec reports whether the options choose how messages are encoded; such
// calls carry nothing inline.
func hasCodec(opts []grpc.CallOption) bool {
	return slices.ContainsFunc(opts, func(o grpc.CallOption) bool {
		switch o.(type) {
		case grpc.ForceCodecCallOption, grpc.ForceCodecV2CallOption, grpc.CustomCodecCallOption, grpc.ContentSubtypeCallOption:
			return true
		}
		return false
	})
}

// waits reports whether the call waits for a connection instead of failing.
func waits(opts []grpc.CallOption) bool {
	wait := false
	for _, o := range opts {
		if f, ok := o.(grpc.FailFastCallOption); ok {
			wait = !f.FailFast
		}
	}
	return wait
}
