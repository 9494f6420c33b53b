package trace

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/pannier/pannier/spec/fault"
)

// TestEnvironmentIsRead: headers and addresses that the SDK would print are refused, and not told.
func TestEnvironmentIsRead(t *testing.T) {
	for value, want := range map[string]string{
		"": "", "a=b": "", "authorization=Bearer%20x, x-key = y,": "", "a=": "",
		"a=b,Bearer canary": "entry 2 of", "authorization: Bearer canary==": "entry 1 of", "=canary": "entry 1 of", "a=canary%zz": "escapes nothing",
	} {
		for _, name := range headerNames {
			err := checkEnvironment(func(n string) string { return map[string]string{name: value}[n] })
			if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "canary") || fault.KindOf(err) != fault.Invalid) {
				t.Errorf("%s=%q: %v", name, value, err)
			}
		}
	}
	for _, name := range endpointNames {
		err := checkEnvironment(func(n string) string { return map[string]string{name: "http://me:canary@%zz/"}[n] })
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
		t.Setenv(name, "http://me:canary@[::1")
		if _, err := Open("n", "1", slog.New(slog.DiscardHandler)); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// refuses is an exporter that fails with an error.
type refuses struct{ error }

func (r refuses) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return r.error }
func (r refuses) Shutdown(context.Context) error                        { return nil }

// TestCollectorTellsNothing: of what the collector or the exporter says, the log has what is no
// secret of the environment's.
func TestCollectorTellsNothing(t *testing.T) {
	env := map[string]string{
		"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20canary-one,x-key=canary%2Dtwo", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "k=canary-one-and-more",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:canary-three@collector.example/canary-four?key=canary-five",
	}
	var log bytes.Buffer
	q := &quiet{SpanExporter: refuses{errors.New("failed to send to https://me:canary-three@collector.example/canary-four/v1/traces?key=canary-five: 401 canary-one, Bearer canary-one, canary-two, canary%2Dtwo, canary-one-and-more")},
		log: slog.New(slog.NewTextHandler(&log, nil)), hide: hider(func(n string) string { return env[n] })}
	if err := q.ExportSpans(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Contains(text, "canary") || strings.Contains(text, "more") || !strings.Contains(text, "collector.example") || !strings.Contains(text, "401") {
		t.Error(text)
	}
}
