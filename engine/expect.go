package engine

import (
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// expect lets a request that was registered for one version of its source send no other.
// A file that a pre task has put in its place is the task's business.
func (x *run) expect(d *sideeffect.Descriptor) error {
	if x.r.Role != lifecycle.Requester || x.r.Side != lifecycle.Sender || x.r.File != x.r.Spec.Source {
		return nil
	}
	if x.r.Spec.Version != "" {
		v, err := sideeffect.ParseVersion([]byte(x.r.Spec.Version))
		d.Local = expected{d.Local, v, true}
		return err
	}
	if x.engine.cfg.Expect == nil {
		return nil
	}
	v, only, err := x.engine.cfg.Expect(x.r.Key.ID)
	if err == nil && only {
		d.Local = expected{d.Local, v, false}
	}
	return err
}

// expected is a source in one version only.
type expected struct {
	sideeffect.Identity
	version sideeffect.Version // without its device
	touched bool               // another mode, owner or link makes no other version
}

func (e expected) is(v sideeffect.Version) bool {
	v = v.WithoutDevice()
	return v == e.version || e.touched && v.Touched(e.version)
}

// OpenSource is NotFound, which no attempt changes, when the name has another version.
func (e expected) OpenSource(spec sideeffect.SourceSpec) (sideeffect.Source, error) {
	s, err := e.Identity.OpenSource(spec)
	if err == nil && !e.is(s.Version()) {
		err = fault.New("open source", fault.NotFound, "the file was changed after it was submitted, and the version that was is gone")
		_ = s.Close() // nothing was read
		return nil, err
	}
	return s, err
}
