package trace

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"

	"github.com/pannier/pannier/spec/fault"
)

// closeTime is how long Close waits for the collector.
const closeTime = 2 * time.Second

// Enabled reports whether the environment asks for traces: an OTLP endpoint is set, and
// neither OTEL_SDK_DISABLED nor OTEL_TRACES_EXPORTER says otherwise.
func Enabled(getenv func(string) string) bool {
	if strings.EqualFold(strings.TrimSpace(getenv("OTEL_SDK_DISABLED")), "true") {
		return false
	}
	if e := getenv("OTEL_TRACES_EXPORTER"); e != "" && e != "otlp" {
		return false
	}
	return getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// Open makes the Tracer of a node as the environment says; nil: there is to be none. The
// exporter, its headers, certificates, times, the sampler and the queue are set by OTEL_*
// variables as the SDK reads them. It connects to nobody before there is something to tell.
func Open(node, version string, log *slog.Logger) (*Tracer, error) {
	if !Enabled(os.Getenv) {
		return nil, nil
	}
	if err := checkEnvironment(os.Getenv); err != nil {
		return nil, err
	}
	ctx := context.Background()
	var exporter sdk.SpanExporter
	var err error
	switch protocol := protocolOf(os.Getenv); protocol {
	case "grpc":
		exporter, err = otlptracegrpc.New(ctx)
	case "http/protobuf":
		exporter, err = otlptracehttp.New(ctx)
	default:
		return nil, fault.New("open traces", fault.Unsupported, "OTEL_EXPORTER_OTLP_PROTOCOL is %q: it is grpc or http/protobuf", protocol)
	}
	if err != nil {
		return nil, fault.New("open traces", fault.Invalid, "the OTEL_* variables make no exporter: %w", err)
	}
	// What the environment says of the resource comes last, and wins.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", "pannier"), attribute.String("service.version", version), attribute.String("service.instance.id", node)),
		resource.WithFromEnv())
	if err != nil {
		log.Warn("traces say less of this node than they should", "error", err)
	}
	now := time.Now
	if os.Getenv("OTEL_TRACES_SAMPLER") != "" {
		now = nil
	}
	return newTracer(exporter, about, log, now), nil
}

func protocolOf(getenv func(string) string) string {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if p := getenv(name); p != "" {
			return p
		}
	}
	return "http/protobuf"
}

// newTracer makes a Tracer; now is the sampler's clock, nil: the environment has a sampler.
func newTracer(exporter sdk.SpanExporter, about *resource.Resource, log *slog.Logger, now func() time.Time) *Tracer {
	t := &Tracer{exporter: exporter}
	options := []sdk.TracerProviderOption{sdk.WithBatcher(&quiet{SpanExporter: exporter, log: log, hide: hider(os.Getenv)}), sdk.WithResource(about), sdk.WithIDGenerator(ids{})}
	if now != nil {
		options = append(options, sdk.WithSampler(newSampler(now)))
	}
	t.provider = sdk.NewTracerProvider(options...)
	t.tracer = t.provider.Tracer("github.com/pannier/pannier/engine")
	return t
}

// Tracer implements engine.Observer. Its methods may be called at the same time, and none
// waits for the collector.
type Tracer struct {
	provider *sdk.TracerProvider
	exporter sdk.SpanExporter
	tracer   api.Tracer
}

// Close tells the collector what it has not been told, for as long as closeTime.
func (t *Tracer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what is lost is traces
	_ = t.exporter.Shutdown(ctx) // the provider leaves it as it is when the time is over
	return nil
}

// quiet is an exporter whose errors are said once a minute, and are nobody's else: the
// SDK would write each to standard error.
type quiet struct {
	sdk.SpanExporter
	log  *slog.Logger
	hide *strings.Replacer

	mu   sync.Mutex
	said time.Time
}

func (q *quiet) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := q.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Since(q.said) >= time.Minute {
		q.said = time.Now()
		q.log.Warn("traces are not taken; transfers do not mind", "spans", len(spans), "error", q.hide.Replace(err.Error()))
	}
	return nil
}
