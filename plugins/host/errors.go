package host

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// failed is what a call that ended with err means to this process: what the driver
// said, or what has become of the plugin. ctx is the call's.
func (p *process) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	for _, d := range s.Details() {
		if f, ok := d.(*bridgepb.Failure); ok && fault.Kind(f.GetKind()) != 0 {
			return p.failure(f)
		}
	}
	if at, ok := ctx.Deadline(); ok && s.Code() == codes.DeadlineExceeded && time.Until(at) < time.Second {
		<-ctx.Done() // the plugin keeps the same deadline, and was a moment earlier
	}
	if ctx.Err() != nil {
		if errors.Is(context.Cause(ctx), errLate) {
			return fault.Concluded("call plugin "+p.cfg.Name, fault.DeadPeer, "the plugin has not answered in time")
		}
		return fault.Wrap("call plugin", p.cfg.Name, ctx.Err())
	}
	switch s.Code() {
	case codes.Unavailable, codes.Canceled: // the latter if the connection was closed here
		p.lost()
		return fault.Concluded("call plugin "+p.cfg.Name, fault.Lost, "the plugin has ended")
	case codes.Unimplemented:
		return fault.New("call plugin "+p.cfg.Name, fault.Unsupported, "it has no such method")
	case codes.ResourceExhausted:
		return fault.New("call plugin "+p.cfg.Name, fault.TooLong, "%s", s.Message())
	}
	return fault.New("call plugin "+p.cfg.Name, fault.Protocol, "an error that is none of the contract's: %s %s", s.Code().String(), s.Message())
}

// lost waits until the process has ended: the next use is to start another. One whose
// connection has ended and that has not itself is of no use.
func (p *process) lost() {
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-p.gone:
	case <-t.C:
		p.kill()
	}
}

// errLate is why a context of ours ended when it was not its owner's wish.
var errLate = errors.New("the host's limit")

// stays is what a driver says: it runs for this operator, and other nodes are not told.
type stays struct{ error }

// failure is the error that a driver made.
func (p *process) failure(f *bridgepb.Failure) error {
	said := text(f.GetText())
	e := fault.FromPeer(text(f.GetOp()), fault.Kind(f.GetKind()), said)
	if !p.tells {
		e.Err = stays{e.Err}
	}
	e.Side, e.Subject, e.Advice = min(fault.Side(f.GetSide()), fault.Inferred), text(f.GetSubject()), text(f.GetAdvice())
	switch {
	case f.GetCode() != "":
		e.Err = plugins.Native{Code: text(f.GetCode()), Text: said}
	case f.GetText() == "":
		e.Err = nil
	}
	return e
}
