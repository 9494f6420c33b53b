package rpc

import (
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// Streams is who takes what peers open on the sessions of a client or a server
// beside the streams of side effects. The methods are called by the goroutine that
// accepts a session's streams: what blocks there holds up the session's side effects.
type Streams interface {
	// Attach is told of a session before its first stream, Over after its last, when
	// the session is over.
	Attach(s *flow.Session)
	Over(s *flow.Session)
	// Handle accepts or refuses a stream, which may be later and from another
	// goroutine.
	Handle(s *flow.Session, in *flow.Incoming)
}

// refusing is Streams by default.
type refusing struct{}

func (refusing) Attach(*flow.Session) {}
func (refusing) Over(*flow.Session)   {}

func (refusing) Handle(_ *flow.Session, in *flow.Incoming) {
	in.Refuse(fault.New("accept stream", fault.Unsupported, "streams of this kind are not taken here"))
}

func orRefusing(s Streams) Streams {
	if s == nil {
		return refusing{}
	}
	return s
}
