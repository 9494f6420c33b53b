package flow

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/fault"
)

// TestLossIsConcluded: of a connection that went away nobody has said anything,
// so that the error of the session, and of what was open on it, is neither end's.
func TestLossIsConcluded(t *testing.T) {
	for name, after := range map[string]struct {
		cfg  Config
		harm func(*flowtest.Link)
		kind fault.Kind
	}{
		"cut":                {Config{ResumeTimeout: -1}, (*flowtest.Link).Cut, fault.Lost},
		"cut, not made anew": {Config{}, func(l *flowtest.Link) { l.Refuse(true); l.Cut() }, fault.Lost},
		"silent":             {Config{ResumeTimeout: -1}, (*flowtest.Link).Stall, fault.DeadPeer},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, after.cfg)
				defer stop()
				opened := make(chan *BlockStream, 1)
				go func() {
					in, _ := far.AcceptStream(t.Context())
					b, _ := in.AcceptBlocks(AcceptBlocks{})
					opened <- b
				}()
				mine, err := near.OpenBlocks(t.Context(), Open{Kind: "k"})
				if err != nil {
					t.Fatal(err)
				}
				theirs := <-opened
				settle()
				after.harm(l)
				<-near.Done()
				<-far.Done()
				for who, err := range map[string]error{"near": near.Err(), "far": far.Err(), "near's stream": mine.Err(), "far's stream": theirs.Err()} {
					var f *fault.Error
					if !errors.As(err, &f) || f.Side != fault.Inferred || f.Kind != after.kind && f.Kind != fault.Lost {
						t.Errorf("%s: %v", who, err)
					}
				}
			})
		})
	}
}
