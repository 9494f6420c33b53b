package bench

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/fault"
)

// observedTurns is how often two daemons that are observed and two that are not take turns
// in one run. What else the machine does hits both: the ratios are of turns side by side.
const observedTurns = 10

// scrapeEvery is how often metrics are read: five to sixty times as often as is usual.
const scrapeEvery = time.Second

// observed carries the same files between daemons whose metrics are read and whose traces go
// to a collector, and between daemons without, in turn.
func (e *engineBench) observed(c engineCase) (r EngineResult, err error) {
	seen, err := newEngineBench(e.ctx, e.cfg, c, filepath.Join(e.a.Dir, "..", "seen"))
	if err != nil {
		return r, err
	}
	defer seen.close()
	eyes, err := openEyes(seen.a, seen.b)
	if err != nil {
		return r, err
	}
	defer eyes.close()
	for _, n := range []*nodetest.Node{e.a, e.b} {
		n.Env = append(n.Env, "OTEL_SDK_DISABLED=true")
	}
	for _, end := range []*engineBench{e, seen} {
		if err := end.start(c.bytes); err != nil {
			return r, err
		}
		if err := end.files(c.count, c.bytes, "f"); err != nil {
			return r, err
		}
	}
	eyes.scrape(scrapeEvery)
	var pairs []EngineResult
	for turn := range observedTurns {
		p, err := observedTurn(e, seen, c, turn)
		if err != nil {
			return r, err
		}
		pairs = append(pairs, p)
		fmt.Fprintf(e.cfg.Progress, "%s, turn %d/%d: %.0f/s and %.0f/s without, %.3f CPU ms and %.3f\n", c.name, turn+1, observedTurns, p.PerSecond, p.OtherRate, p.CPU, p.OtherCPU)
	}
	eyes.shut()
	for _, end := range []*engineBench{e, seen} { // the last spans are told at the end
		if err := end.stop(); err != nil {
			return r, err
		}
	}
	spans, scrapes, err := eyes.close()
	if err != nil {
		return r, err
	}
	if spans == 0 || scrapes == 0 {
		return r, fault.New("observe", fault.Internal, "%d spans and %d readings of metrics: nothing was observed", spans, scrapes)
	}
	fmt.Fprintf(e.cfg.Progress, "%s: %d spans told, metrics read %d times\n", c.name, spans, scrapes)
	return engineMedian(pairs), nil
}

// observedTurn lets both carry the files once, the observed ones first in every other turn.
func observedTurn(plain, seen *engineBench, c engineCase, turn int) (EngineResult, error) {
	order := []*engineBench{seen, plain}
	if turn%2 == 1 {
		slices.Reverse(order)
	}
	results := map[*engineBench]EngineResult{}
	for _, end := range order {
		r, err := end.timedTo(c, "f", 0, fmt.Sprintf("turn%d/", turn))
		if err != nil {
			return r, err
		}
		results[end] = r
	}
	r, other := results[seen], results[plain]
	r.Against, r.AgainstBy = "the same, not observed", r.PerSecond/other.PerSecond
	if other.CPU > 0 { // it is counted in ticks of 10 ms
		r.CPUBy = r.CPU / other.CPU
	}
	r.OtherRate, r.OtherCPU = other.PerSecond, other.CPU
	return r, nil
}

// stop ends both daemons in order.
func (e *engineBench) stop() error {
	if err := e.a.Stop(); err != nil {
		return err
	}
	return e.b.Stop()
}
