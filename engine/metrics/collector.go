package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/flow/relay"
)

// Sources are what is counted when somebody asks. A func that is nil has nothing.
type Sources struct {
	Load     func() engine.Load
	Keys     func() map[string]int // pinned keys of each partner
	Sessions func() (dialled, accepted int)
	Relays   func() []Relay
	Folders  func() []Folder
	Backlog  func() int // finished records that wait to be pushed
}

// Relay is what goes over relays with one partner.
type Relay struct {
	Partner                 string // of the configuration, or "*" of a policy for all
	Open                    int
	Opened, Refused, Failed int64
	ToPeer, FromPeer        int64
}

// Folder is how a watch folder is doing.
type Folder struct {
	Name                                       string
	Waiting, Held, Open, Kept, Failed, Skipped int       // files
	Staying                                    int       // that were delivered or have failed, and could not be moved or removed
	Events                                     bool      // the kernel tells of all changes
	Trouble                                    bool      // it cannot be looked through
	Scanned                                    time.Time // when the last scan has ended; zero: none has
}

type collector struct{ from Sources }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	queueDepth  = desc("pannier_queue_depth", "Requests that wait.", "status")
	queueOldest = desc("pannier_queue_oldest_seconds", "How long the request has been due that waits longest for a place or its partner.")
	running     = desc("pannier_running", "Requests whose record is held by a run, and calls that are served.", "status")
	draining    = desc("pannier_draining", "1 while the node takes nothing new.")
	partnerUp   = desc("pannier_partner_up", "1 if there was a session with the partner when last heard.", "partner")
	partnerRTT  = desc("pannier_partner_rtt_seconds", "Round trip to the partner; 0: unknown.", "partner")
	partnerRun  = desc("pannier_partner_transfers", "Requests of this node with the partner.", "partner", "status")
	partnerKeys = desc("pannier_partner_keys", "Keys that are pinned for the partner: 2 while one is replaced.", "partner")
	sessions    = desc("pannier_sessions", "Sessions with partners.", "direction")
	relayConns  = desc("pannier_relay_connections", "Relayed connections that are open.", "partner")
	relayOpened = desc("pannier_relay_connections_total", "Relayed connections.", "partner", "status")
	relayBytes  = desc("pannier_relay_bytes_total", "Bytes of relayed connections.", "partner", "direction")
	folderFiles = desc("pannier_folder_files", "Files in watch folders.", "folder", "status")
	folderUp    = desc("pannier_folder_up", "1 if the watch folder can be looked through.", "folder")
	folderHints = desc("pannier_folder_events", "1 if the kernel tells of changes in the watch folder.", "folder")
	folderScan  = desc("pannier_folder_scanned_timestamp_seconds", "When the last scan of the watch folder has ended; 0: none has.", "folder")
	pushBacklog = desc("pannier_push_backlog", "Finished records that wait to be pushed.")
)

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queueDepth, queueOldest, running, draining, partnerUp, partnerRTT, partnerRun, partnerKeys, sessions, relayConns, relayOpened, relayBytes, folderFiles, folderUp, folderHints, folderScan, pushBacklog} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	if c.from.Load != nil {
		l := c.from.Load()
		gauge(queueDepth, float64(l.Ready), "ready")
		gauge(queueDepth, float64(l.Waiting), "waiting")
		gauge(queueOldest, l.Oldest.Seconds())
		gauge(running, float64(l.Running), "requests")
		gauge(running, float64(l.Serving), "calls")
		gauge(draining, flag(l.Draining))
		for i := range l.Partners {
			p := &l.Partners[i]
			gauge(partnerUp, flag(p.Connected), p.Name)
			gauge(partnerRTT, p.RTT.Seconds(), p.Name)
			gauge(partnerRun, float64(p.Running), p.Name, "running")
			gauge(partnerRun, float64(p.Queued), p.Name, "ready")
		}
	}
	if c.from.Keys != nil {
		for partner, n := range c.from.Keys() {
			gauge(partnerKeys, float64(n), partner)
		}
	}
	if c.from.Sessions != nil {
		dialled, accepted := c.from.Sessions()
		gauge(sessions, float64(dialled), "dialled")
		gauge(sessions, float64(accepted), "accepted")
	}
	if c.from.Relays != nil {
		for _, r := range c.from.Relays() {
			gauge(relayConns, float64(r.Open), r.Partner)
			counter(relayOpened, r.Opened, r.Partner, "opened")
			counter(relayOpened, r.Refused, r.Partner, "refused")
			counter(relayOpened, r.Failed, r.Partner, "failed")
			counter(relayBytes, r.ToPeer, r.Partner, "send")
			counter(relayBytes, r.FromPeer, r.Partner, "receive")
		}
	}
	if c.from.Folders != nil {
		for _, f := range c.from.Folders() {
			for status, n := range map[string]int{"waiting": f.Waiting, "held": f.Held, "open": f.Open, "kept": f.Kept, "failed": f.Failed, "skipped": f.Skipped, "staying": f.Staying} {
				gauge(folderFiles, float64(n), f.Name, status)
			}
			gauge(folderUp, flag(!f.Trouble), f.Name)
			gauge(folderHints, flag(f.Events), f.Name)
			gauge(folderScan, seconds(f.Scanned), f.Name)
		}
	}
	if c.from.Backlog != nil {
		gauge(pushBacklog, float64(c.from.Backlog()))
	}
}

// seconds is a time as Prometheus has it.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func flag(v bool) float64 {
	if v {
		return 1
	}
	return 0
}

// Add adds what one relay has counted.
func (r *Relay) Add(s *relay.Stats) {
	r.Open += s.Open
	r.Opened += s.Opened
	r.Refused += s.Refused
	r.Failed += s.Failed
	r.ToPeer += s.ToPeer
	r.FromPeer += s.FromPeer
}
