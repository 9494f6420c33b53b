package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/fault"
)

// eyes is who observes daemons: an OTLP collector that counts spans, and who reads their metrics.
type eyes struct {
	nodes   []*nodetest.Node
	server  *http.Server
	serving sync.WaitGroup // the server
	reading sync.WaitGroup // who reads metrics, until blink
	ctx     context.Context
	blink   context.CancelFunc

	spans, scrapes atomic.Int64
	mu             sync.Mutex
	failed         error // the first
}

// openEyes starts a collector, and has the nodes, which are not started yet, tell it everything
// that they tell by default.
func openEyes(nodes ...*nodetest.Node) (*eyes, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fault.Wrap("open collector", "", err)
	}
	o := &eyes{nodes: nodes}
	o.ctx, o.blink = context.WithCancel(context.Background())
	o.server = &http.Server{Handler: http.HandlerFunc(o.told)}
	o.serving.Go(func() { _ = o.server.Serve(l) })
	for _, n := range nodes {
		n.Env = append(n.Env, "OTEL_SDK_DISABLED=false", "OTEL_TRACES_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=",
			"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+l.Addr().String())
	}
	return o, nil
}

// told takes spans.
func (o *eyes) told(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var in collector.ExportTraceServiceRequest
	if err = errors.Join(err, proto.Unmarshal(body, &in)); err != nil {
		o.fail(fault.Wrap("take spans", "", err))
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, of := range in.GetResourceSpans() {
		for _, in := range of.GetScopeSpans() {
			o.spans.Add(int64(len(in.GetSpans())))
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// scrape begins to read the metrics of all nodes, as Prometheus does.
func (o *eyes) scrape(every time.Duration) {
	for _, n := range o.nodes {
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(n.State, "http.sock"))
		}}}
		o.reading.Go(func() {
			defer client.CloseIdleConnections()
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				if err := o.scrapeOnce(client); err != nil {
					if o.ctx.Err() == nil {
						o.fail(fault.Wrap("read metrics", n.Name, err))
					}
					return
				}
				select {
				case <-tick.C:
				case <-o.ctx.Done():
					return
				}
			}
		})
	}
}

func (o *eyes) scrapeOnce(client *http.Client) error {
	req, err := http.NewRequestWithContext(o.ctx, http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err = io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", resp.Status)
	}
	if err == nil {
		o.scrapes.Add(1)
	}
	return err
}

func (o *eyes) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed == nil {
		o.failed = err
	}
}

// shut ends the reading of metrics, so that the nodes may end.
func (o *eyes) shut() {
	o.blink()
	o.reading.Wait()
}

// close ends the collector too, which the nodes have told the last spans by then.
func (o *eyes) close() (spans, scrapes int64, err error) {
	o.shut()
	_ = o.server.Close()
	o.serving.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.spans.Load(), o.scrapes.Load(), o.failed
}
