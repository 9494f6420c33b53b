package engine

import (
	"context"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/relpath"
)

// Line is how an engine reaches its partners; package peer is one. Its methods
// are called by many goroutines at a time.
type Line interface {
	// Reach makes sure that there is a session with the partner on which it answers, and returns how
	// long its round trip takes (0: unknown).
	Reach(ctx context.Context, partner string) (time.Duration, error)

	// Call makes one call and returns the partner's answer. effect is nil unless
	// a.Move is Transfer, or Prepare with the bytes; then it is this end's half, and over when Call returns.
	// An error of the connection has one of the kinds Lost, DeadPeer, Draining,
	// Canceled and Deadline. With an answer, the error is about the effect only.
	Call(ctx context.Context, partner string, a Ask, effect *sideeffect.Descriptor) (Answer, error)

	// Forget closes the session with the partner, because its address or keys have changed,
	// unless its other end has proved one of these keys. Calls that run on it fail.
	Forget(partner string, but ...string)
}

// Ask is a call of the requester. lifecycle.Mismatch as Move
// means Stop: the requester will not call again in this attempt.
type Ask struct {
	Move lifecycle.Move
	Key  lifecycle.Key
	Side lifecycle.Side // of the requester
	Call lifecycle.Call

	// Spec: what is asked for. To another node it travels with Prepare only.
	Rule     string
	Source   relpath.Path
	Target   relpath.Path
	Priority int8
	Follow   lifecycle.ID
	Info     string
	Hops     uint8

	Bandwidth int64 // bytes a second that the requester holds the request to; 0: no limit

	// Trace is the W3C traceparent of what the call is part of at the requester; empty:
	// of nothing. It travels with each call, and changes nothing.
	Trace string

	// Why, with Stop only: what has ended the request at the requester, its Cause
	// being the Told of there.
	// Canceled means that its operator does not want the bytes.
	Why lifecycle.Failure
	// Gone, with Stop only: the requester, which is the receiver, has given up what had arrived.
	Gone bool
}

// Outcome says what the requested end has done with a call.
type Outcome uint8

const (
	Served  Outcome = 1 // Answer.Phase is how far it is; 0: it does not know the request
	Failed  Outcome = 2 // the request is INERROR there: Answer.Failure
	Paused  Outcome = 3 // its operator has stopped the request: ask again after Answer.Wait
	Outdate Outcome = 4 // a call of a later attempt has been there
	Busy    Outcome = 5 // a limit is reached, tasks still run, or the node is going away: ask again after Answer.Wait
)

// Answer is the requested end's answer. All of it travels.
type Answer struct {
	Outcome Outcome
	Phase   lifecycle.Phase
	Rank    int64             // bytes that are safe there
	Size    int64             // of the whole, when that end is the sender; else -1
	Failure lifecycle.Failure // with Busy: why; its Cause is the Told of the other end
	Wait    time.Duration
	All     bool // Busy: it goes for every call of this node, not for this request alone

	// Bandwidth, before the bytes are whole, is how many bytes a second that end grants the request; 0: no limit,
	// or it has not said.
	Bandwidth int64
}

// Effect is the requested end's half of the bytes of a call:
// *rpc.Effect is one.
type Effect interface {
	// Size is how many bytes the caller's source has, -1 when it does not say or is
	// the sink.
	Size() int64
	Run(ctx context.Context, d *sideeffect.Descriptor, await sideeffect.Await) error
}
