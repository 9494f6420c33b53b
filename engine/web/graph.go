package web

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pannier/pannier/spec/adminpb"
)

// The throughput of the last hour: bytes that have become safe at the receiver.

const (
	sampleEvery = 5 * time.Second
	quick       = time.Second // between looks while nothing moves, so that the rate is shown soon when something does
	rare        = time.Minute // at the most, between looks that take long
	samples     = 720
	bucket      = 4 // samples that are one point of the picture
	graphWidth  = samples / bucket * 4
	graphHeight = 64
)

// sample is bytes a second, in and out.
type sample struct{ in, out float64 }

// graph keeps samples. It looks at what runs and at what has become DONE only.
type graph struct {
	admin adminpb.AdminClient

	mu    sync.Mutex
	ring  [samples]sample
	next  int
	now   sample // the last rate that is known
	part  spell  // of the sample that is not over
	began time.Time
	shown picture
}

// spell is bytes in a time.
type spell struct {
	in, out int64
	took    time.Duration
}

// counter is what a sampler remembers.
type counter struct {
	before map[string]int64 // request that ran: bytes that were safe
	done   []*adminpb.Request
	at     time.Time
}

func newGraph(client adminpb.AdminClient) *graph {
	g := &graph{admin: client, began: time.Now()}
	g.shown = g.draw()
	return g
}

func (g *graph) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var c counter
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		wait, began := quick, time.Now()
		if in, out, err := c.count(ctx, g.admin); err == nil {
			now := time.Now()
			if !c.at.IsZero() {
				wait = g.moved(spell{in, out, now.Sub(c.at)})
			}
			c.at = now
		}
		timer.Reset(max(wait, min(time.Since(began)*share, rare)))
	}
}

// count is how many bytes have become safe since it was called last; what is DONE at
// the first call is not looked at.
func (c *counter) count(ctx context.Context, client adminpb.AdminClient) (in, out int64, err error) {
	now := map[string]int64{}
	add := func(r *adminpb.Request, n int64) {
		if n <= 0 {
			return
		}
		if r.GetSide() == adminpb.Request_RECEIVER {
			in += n
		} else {
			out += n
		}
	}
	err = list(ctx, client, &adminpb.ListRequest{States: []adminpb.Request_State{adminpb.Request_RUNNING}}, func(r *adminpb.Request) bool {
		safe, _ := safeOf(r)
		key := keyOf(r)
		now[key] = safe
		was, ran := c.before[key]
		if !ran {
			was = safe
			if l := r.GetLive(); l != nil && l.GetTotal() != 0 && c.before != nil {
				was = l.GetFrom()
			}
		}
		add(r, safe-was)
		return true
	})
	if err != nil {
		return 0, 0, err
	}
	first := c.done == nil && c.before == nil
	most := mostDone
	if first {
		most = 1
	}
	latest, err := newlyDone(ctx, client, c.done, most)
	if err != nil {
		return 0, 0, err
	}
	for _, r := range latest {
		if first || len(c.done) > 0 && keyOf(r) == keyOf(c.done[0]) {
			break
		}
		add(r, max(r.GetSize(), 0)-c.before[keyOf(r)])
	}
	if len(latest) > 0 {
		c.done = latest[:1]
	}
	c.before = now
	return in, out, nil
}

// moved takes what has become safe since it was called last, and says when to look again.
func (g *graph) moved(s spell) time.Duration {
	rateOf := func(s spell) sample {
		seconds := max(s.took, time.Millisecond).Seconds()
		return sample{float64(s.in) / seconds, float64(s.out) / seconds}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = rateOf(s)
	g.part.in, g.part.out, g.part.took = g.part.in+s.in, g.part.out+s.out, g.part.took+s.took
	left := sampleEvery - g.part.took
	if left <= quick/2 {
		for range min(max(g.part.took.Round(sampleEvery)/sampleEvery, 1), samples) { // more than one if it was not looked so often
			g.put(rateOf(g.part))
		}
		g.part, left = spell{}, sampleEvery
	}
	g.shown = g.draw()
	if s.in == 0 && s.out == 0 {
		return quick
	}
	return max(left, quick)
}

// add takes a sample.
func (g *graph) add(s sample) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = s
	g.put(s)
	g.shown = g.draw()
}

// put puts a sample into the ring. g.mu is held.
func (g *graph) put(s sample) {
	g.ring[g.next%samples] = s
	g.next++
}

// picture is the graph as a page shows it.
type picture struct {
	Width, Height int
	In, Out       string // paths
	Span          string // of which time it is
	Most          string // at the upper edge
	NowIn, NowOut string
	Empty         bool
	Words         string // for those who do not see it
}

func (g *graph) picture() picture {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shown
}

// draw makes the picture, newest at the right. g.mu is held.
func (g *graph) draw() picture {
	points := make([]sample, samples/bucket)
	most := 0.0
	end := g.next - g.next%bucket + bucket // so that points do not change once they are whole
	for i := range points {
		n := 0
		for k := end - samples + i*bucket; k < end-samples+(i+1)*bucket; k++ {
			if k >= 0 && k < g.next && g.next-k <= samples {
				points[i].in += g.ring[k%samples].in
				points[i].out += g.ring[k%samples].out
				n++
			}
		}
		if n > 0 {
			points[i].in, points[i].out = points[i].in/float64(n), points[i].out/float64(n)
		}
		most = max(most, points[i].in, points[i].out)
	}
	most = max(most, g.now.in, g.now.out)
	p := picture{Width: graphWidth, Height: graphHeight, Empty: most == 0, Most: rate(most), Span: "last hour"}
	if g.next < samples { // what an earlier process has moved is not known here
		p.Span = "since the start at " + clock(g.began)
	}
	p.NowIn, p.NowOut = rate(g.now.in), rate(g.now.out)
	p.Words = fmt.Sprintf("Throughput, %s: at most %s; now %s in, %s out", p.Span, p.Most, p.NowIn, p.NowOut)
	p.In = trace(points, most, func(s sample) float64 { return s.in })
	p.Out = trace(points, most, func(s sample) float64 { return s.out })
	return p
}

func rate(perSecond float64) string { return humanize.IBytes(uint64(math.Ceil(perSecond))) + "/s" }

// trace is an SVG path from left to right along the values. A point between two of the
// same height is left out.
func trace(points []sample, most float64, value func(sample) float64) string {
	height := func(i int) float64 {
		if most == 0 {
			return graphHeight - 1
		}
		return graphHeight - 1 - value(points[i])/most*(graphHeight-3)
	}
	var b strings.Builder
	last := len(points) - 1
	for i := range points {
		y := height(i)
		if i > 0 && i < last && y == height(i-1) && y == height(i+1) {
			continue
		}
		fmt.Fprintf(&b, "%s%d %.1f", map[bool]string{true: "M", false: "L"}[i == 0], i*graphWidth/last, y)
	}
	return b.String()
}
