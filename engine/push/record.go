package push

import (
	"strconv"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
)

// message is the body of a request.
type message struct {
	Node    string   `json:"node"`
	Records []Record `json:"records"`
}

// Record is a finished request as it is sent. Numbers that may have 64 bits are texts:
// many readers of JSON keep 53.
type Record struct {
	Seq        string    `json:"seq"` // rises with each record of the node, with gaps; the same when it is sent again by the same process
	ID         string    `json:"id"`
	Requester  string    `json:"requester"`
	Role       string    `json:"role"`
	Side       string    `json:"side"`
	Partner    string    `json:"partner"`
	Rule       string    `json:"rule"`
	Source     string    `json:"source"`
	Target     string    `json:"target"`
	Follow     string    `json:"follow"`
	Info       string    `json:"info,omitempty"`
	State      string    `json:"state"`   // DONE or INERROR
	Version    string    `json:"version"` // of the record: with id and role it names what is sent
	Size       string    `json:"size"`    // bytes; -1: nobody has said it
	Durable    string    `json:"durable"`
	Attempts   uint32    `json:"attempts"`
	Round      uint32    `json:"round"`
	Digest     string    `json:"digest,omitempty"`
	Verified   string    `json:"verified,omitempty"`
	Registered time.Time `json:"registered"`
	Finished   time.Time `json:"finished"`
	Error      *Failure  `json:"error,omitempty"`
	Trace      string    `json:"trace_id,omitempty"`
}

// Failure is why a request is INERROR.
type Failure struct {
	Kind  string `json:"kind"`
	Side  string `json:"side"`
	Cause string `json:"cause"`
}

func recordOf(r *lifecycle.Record, seq uint64) Record {
	w := Record{
		Seq: strconv.FormatUint(seq, 10), ID: r.Key.ID.String(), Requester: r.Key.Requester, Role: r.Role.String(), Side: r.Side.String(),
		Partner: r.Spec.Partner, Rule: r.Spec.Rule, Source: r.Spec.Source.String(), Target: r.Spec.Target.String(), Follow: r.Spec.Follow.String(), Info: r.Spec.Info,
		State: r.State.String(), Version: strconv.FormatUint(r.Version, 10), Size: strconv.FormatInt(r.Size, 10), Durable: strconv.FormatInt(r.Rank, 10),
		Attempts: r.Attempt, Round: r.Round, Verified: r.Verified, Registered: r.Registered.UTC(), Finished: r.Changed.UTC(),
	}
	if r.Side == lifecycle.Sender {
		w.Digest = r.Proof
	}
	if r.State == lifecycle.InError {
		w.Error = &Failure{Kind: r.Failure.Kind.String(), Side: r.Failure.Side.String(), Cause: r.Failure.Cause}
	}
	if parts := strings.Split(r.Trace, "-"); len(parts) > 1 {
		w.Trace = parts[1]
	}
	return w
}
