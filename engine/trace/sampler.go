package trace

import (
	"sync"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
)

// MostTraces is how many requests a second begin a trace at this node, unless
// OTEL_TRACES_SAMPLER says which do. A request has a dozen spans or more at each end: of
// thousands a second the queue would drop most, and leave no trace whole, and telling all of
// them took a fifth more processor time of small files.
const MostTraces = 20

// sampler chooses the first so many of each second. A request that has been brought
// by another is traced if that is.
type sampler struct {
	now func() time.Time

	mu     sync.Mutex
	second time.Time
	taken  int
}

func newSampler(now func() time.Time) sdk.Sampler {
	return sdk.ParentBased(&sampler{now: now})
}

func (s *sampler) Description() string { return "FirstOfEachSecond" }

func (s *sampler) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	r := sdk.SamplingResult{Decision: sdk.Drop, Tracestate: api.SpanContextFromContext(p.ParentContext).TraceState()}
	if _, chosen := p.ParentContext.Value(wanted{}).(api.SpanContext); chosen || s.take() {
		r.Decision = sdk.RecordAndSample
	}
	return r
}

// take takes a place of this second, if there is one.
func (s *sampler) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); now.Sub(s.second) >= time.Second {
		s.second, s.taken = now, 0
	}
	s.taken++
	return s.taken <= MostTraces
}
