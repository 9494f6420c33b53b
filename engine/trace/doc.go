// Package trace tells an OpenTelemetry collector what the engine's runs do: one trace over
// both nodes of a request, its attempts, steps, tasks, calls and bytes. spec/metrics.md,
// "Traces", is the document.
//
//	Open -> the engine's Observer, the store's Told -> Close
//
// The environment decides, as OpenTelemetry's SDKs have it: without an endpoint there is
// no Tracer. Spans wait in a bounded queue; what does not fit, and what the collector does not
// take, is dropped.
package trace
