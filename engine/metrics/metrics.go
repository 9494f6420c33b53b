package metrics

import (
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// Other is what names stand as that are not in the configuration, and kinds of failure that nobody here knows.
const Other = "other"

// Metrics is what one node counts. Its methods may be called at the same time, and
// none waits.
type Metrics struct {
	registry *prometheus.Registry
	book     func() engine.Book

	transfers, bytes, retries, wasted    *prometheus.CounterVec
	active                               *prometheus.GaugeVec
	steps, tasks                         *prometheus.HistogramVec
	commit                               prometheus.Histogram
	crashes, stalled                     prometheus.Counter
	uncommitted                          *prometheus.CounterVec
	pushed, audited, scheduled, expected *prometheus.CounterVec
}

// New makes the metrics of a node whose names are those of the book. version is the
// program's.
func New(version string, book func() engine.Book) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), book: book}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(v)
		return v
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(v)
		return v
	}
	of := []string{"partner", "rule", "direction"}
	m.transfers = counters("pannier_transfers_total", "Requests that have ended at this node.", append(of, "status")...)
	m.bytes = counters("pannier_transfer_bytes_total", "Bytes of content that have come through.", of...)
	m.active = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pannier_active_transfers", Help: "Requests that are worked on at this node."}, of)
	m.retries = counters("pannier_retries_total", "Attempts of this node's requests that have failed and are followed by another.", "status")
	m.wasted = counters("pannier_wasted_bytes_total", "Bytes that had come through and are moved once more.", "direction")
	m.stalled = counters("pannier_window_stall_seconds_total", "Time that transfers were held up by a limit of bandwidth.").WithLabelValues()
	m.steps = histograms("pannier_step_seconds", "Time that a run has spent in a global step.", prometheus.ExponentialBuckets(0.001, 4, 10), "status")
	m.tasks = histograms("pannier_task_seconds", "Time that a task has taken.", prometheus.ExponentialBuckets(0.001, 4, 10), "status")
	commit := histograms("pannier_store_commit_seconds", "Time from a change of a record until it is durable.", prometheus.ExponentialBuckets(0.0001, 2.5, 12))
	m.commit = commit.WithLabelValues().(prometheus.Histogram)
	m.uncommitted = counters("pannier_store_failures_total", "Changes of records that could not be made durable.", "status")
	m.crashes = counters("pannier_plugin_crashes_total", "Plugins that have ended and should not have.").WithLabelValues()
	m.pushed = counters("pannier_push_records_total", "Finished records that were brought to the push endpoint, and that failed to be, counted again with each try.", "status")
	m.audited = counters("pannier_audit_records_total", "Records of the audit log.", "status")
	m.scheduled = counters("pannier_schedule_runs_total", "Runs of schedules whose time has come.", "rule", "direction", "status")
	m.expected = counters("pannier_expected_files_total", "Files that were expected, by what has become of them.", append(of, "status")...)
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "pannier_build_info", Help: "1, with the version of the program.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.registry.MustRegister(m.active, info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, kind := range storeFailures {
		m.uncommitted.WithLabelValues(kind.String())
	}
	for _, status := range []string{"done", "failed"} { // there from the start, so that an increase is seen
		m.pushed.WithLabelValues(status)
		m.audited.WithLabelValues(status)
	}
	return m
}

// Watch adds what is counted when somebody asks.
func (m *Metrics) Watch(from Sources) { m.registry.MustRegister(&collector{from}) }

// Handler serves all in Prometheus's text, or as OpenMetrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// names are the labels of a record: at most what the configuration has.
func (m *Metrics) names(r *lifecycle.Record) (partner, rule, direction string) {
	book := m.book()
	partner, rule, direction = Other, Other, "send"
	isPartner, isRule := book.Known(r.Spec.Partner, r.Spec.Rule)
	if isPartner {
		partner = r.Spec.Partner
	}
	if isRule {
		rule = r.Spec.Rule
	}
	if r.Side == lifecycle.Receiver {
		direction = "receive"
	}
	return partner, rule, direction
}

func direction(r *lifecycle.Record) string {
	if r.Side == lifecycle.Receiver {
		return "receive"
	}
	return "send"
}

// Committed is for store.Seen.
func (m *Metrics) Committed(r *lifecycle.Record, events []lifecycle.Event, _ bool, took time.Duration) {
	m.commit.Observe(took.Seconds())
	for _, e := range events {
		switch e := e.(type) {
		case lifecycle.Conclude:
			m.ended(r, "done")
		case lifecycle.Cancel:
			m.ended(r, "canceled")
		case lifecycle.Settle, lifecycle.Fail:
			if r.State == lifecycle.InError {
				m.ended(r, "failed")
			}
		case lifecycle.Interrupt:
			if e.Reason == lifecycle.Retrying && e.Failure.Kind != 0 && !e.InOrder {
				m.retries.WithLabelValues(kind(e.Failure.Kind)).Inc()
			}
		}
	}
}

// kind is a kind of failure as a label: the other end may have sent any number.
func kind(k fault.Kind) string {
	if !slices.Contains(fault.Kinds(), k) {
		return Other
	}
	return k.String()
}

// storeFailures are the kinds of failure that are the store's own.
var storeFailures = []fault.Kind{fault.NoSpace, fault.IO, fault.Corrupt}

// Uncommitted is for store.Seen. What the store has refused in order is not counted.
func (m *Metrics) Uncommitted(err error) {
	if kind := fault.KindOf(err); slices.Contains(storeFailures, kind) {
		m.uncommitted.WithLabelValues(kind.String()).Inc()
	}
}

func (m *Metrics) ended(r *lifecycle.Record, status string) {
	partner, rule, direction := m.names(r)
	m.transfers.WithLabelValues(partner, rule, direction, status).Inc()
}

// Crashed is for plugins.
func (m *Metrics) Crashed() { m.crashes.Inc() }

// Pushed counts finished records that an endpoint has taken, or has not.
func (m *Metrics) Pushed(n int, err error) { m.pushed.WithLabelValues(status(err)).Add(float64(n)) }

// Audited counts records of the audit log that are on disk, or could not be written.
func (m *Metrics) Audited(err error) { m.audited.WithLabelValues(status(err)).Inc() }

// Scheduled counts runs of schedules; status is made, failed or passed.
func (m *Metrics) Scheduled(rule, direction, status string) {
	m.scheduled.WithLabelValues(rule, direction, status).Inc()
}

// Expected counts expected files; status is in time, late, came late, missing or
// acknowledged.
func (m *Metrics) Expected(partner, rule, status string) {
	m.expected.WithLabelValues(partner, rule, "receive", status).Inc()
}

func status(err error) string {
	if err != nil {
		return "failed"
	}
	return "done"
}
