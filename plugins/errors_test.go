package plugins

import (
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

// TestFailureAdvises: whatever of an error advises, the host learns it, and once.
func TestFailureAdvises(t *testing.T) {
	inner := fault.New("follow the server", fault.Refused, "it redirects").Advise("make that the host")
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"none":         {fault.New("x", fault.Invalid, "no"), ""},
		"its own":      {inner, "make that the host"},
		"of its cause": {&fault.Error{Op: "s3 GetObject", Kind: fault.Refused, Err: inner}, "make that the host"},
		"of both":      {&fault.Error{Op: "s3 GetObject", Kind: fault.Refused, Err: inner, Advice: "or not"}, "or not; make that the host"},
		"the same":     {&fault.Error{Op: "s3 GetObject", Kind: fault.Refused, Err: inner, Advice: "make that the host"}, "make that the host"},
		"wrapped":      {fault.Wrap("open", "x", inner), "make that the host"},
	} {
		f := asFailure(c.err)
		if f.GetAdvice() != c.want || f.GetOp() == "" {
			t.Errorf("%s: it advises %q, want %q", name, f.GetAdvice(), c.want)
		}
	}
}
