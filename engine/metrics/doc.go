// Package metrics counts what a node does, for Prometheus, and answers whether it lives
// and is ready. spec/metrics.md lists all of it.
//
//	New -> the engine's Observer, the store's Told -> Handler
//
// Labels are partner, rule, direction and status, and sets that are closed. A partner or
// rule that is not in the configuration is counted as "other", so that nobody who calls
// can make series.
package metrics
