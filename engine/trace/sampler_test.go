package trace

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
)

// TestLimit: of many requests so many are traced as may, each of them whole, and what a
// partner traces is traced besides.
func TestLimit(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	now := time.Unix(1000, 0)
	tr := newTracer(kept, resource.Empty(), slog.New(slog.DiscardHandler), func() time.Time { return now })
	request := func(parent string) (trace string) {
		r := &lifecycle.Record{State: lifecycle.Done, Registered: now, Changed: now, Trace: tr.Trace(parent)}
		tr.Begin(r, engine.ActAttempt, "", r.Trace).End(nil)
		tr.Committed(r, nil, false, 0)
		return r.Trace
	}
	for second := range 2 {
		now = now.Add(time.Second)
		traced := 0
		for range 1000 {
			if strings.HasSuffix(request(""), "-01") {
				traced++
			}
		}
		if traced != MostTraces {
			t.Errorf("second %d: %d are traced", second, traced)
		}
	}
	const theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"
	if got := request(theirs + "1"); !strings.HasPrefix(got, theirs[:36]) || !strings.HasSuffix(got, "-01 00f067aa0ba902b7") {
		t.Errorf("the partner's: %s", got)
	}
	if got := request(theirs + "0"); !strings.HasSuffix(got, "-00 00f067aa0ba902b7") {
		t.Errorf("what the partner does not trace: %s", got)
	}
	if err := tr.provider.ForceFlush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := len(kept.GetSpans()); n != 2*(2*MostTraces+1) {
		t.Errorf("%d spans; a request and an attempt for each trace", n)
	}
	_ = tr.Close()
}
