package rpctest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/sideeffect"
)

// patience bounds a call that hangs; nothing is asserted about time.
const patience = 60 * time.Second

// Options of Run. The zero value is the whole matrix.
type Options struct {
	// Dir is where files go; "" = the test's temporary files. One in memory
	// makes the matrix faster.
	Dir string
	// Roads to take; nil = all.
	Roads []sideeffect.Road
	// Brief leaves out the products of what decides the outcome together.
	Brief bool
	// NoLarge leaves out the sizes of 1 MiB and more.
	NoLarge bool
	// Full also covers all triples of values, and plays the full product of what
	// decides the outcome (unless Brief), without cases that repeat another:
	// a million calls, for a quarter of an hour.
	Full bool
	// Calls, if not nil, counts the calls that were made.
	Calls *atomic.Int64
}

// Run plays the matrix on pairs that connect makes, one for each road: all
// pairs of values in cases that succeed, all pairs in cases that fail for one
// reason, products of what decides the outcome together, and large contents.
func Run(t *testing.T, connect Connect, o Options) {
	if o.Calls == nil {
		o.Calls = new(atomic.Int64)
	}
	roads := o.Roads
	if roads == nil {
		roads = []sideeffect.Road{sideeffect.RoadAuto, sideeffect.RoadInline, sideeffect.RoadSession, sideeffect.RoadStream}
	}
	for _, road := range roads {
		t.Run(road.String(), func(t *testing.T) {
			t.Parallel()
			m := &matrix{bench: connected(t, connect), shelf: newShelf(t, o.Dir), o: o}
			m.handles = m.shelf.opensHandles(t)
			m.cover(t, road, 0)
			m.cover(t, road, 1)
			if o.Full && !o.Brief {
				m.product(t, road)
			}
			if !o.Brief {
				m.decisive(t, road)
			}
			if !o.NoLarge && road != sideeffect.RoadInline {
				m.large(t, road)
			}
		})
	}
}

// matrix plays cases on one pair, one after the other.
type matrix struct {
	*bench
	shelf   *shelf
	handles bool // files can be opened by handle
	o       Options
	count   int
}

// possible: the machine can do it.
func (m *matrix) possible(c Case) bool {
	return m.handles || c.Source != FromHandle && c.Sink != ToHandle
}

// cover plays all pairs of values, or all triples, among cases with that many
// reasons to fail.
func (m *matrix) cover(t *testing.T, road sideeffect.Road, reasons int) {
	strength := 2
	if m.o.Full {
		strength = 3
	}
	made, _ := tables.LoadOrStore(table{road, reasons, strength, m.HTTP2, m.handles}, sync.OnceValue(func() [][]int {
		return covering(dimensions(), strength, func(row []int) bool {
			c := caseOf(road, row)
			return m.possible(c) && len(Expect(c, m.HTTP2).Reasons) == reasons
		})
	}))
	for _, row := range made.(func() [][]int)() {
		m.check(t, caseOf(road, row))
	}
}

// table is all that its rows depend on, and the carrier is not among it.
type table struct {
	road              sideeffect.Road
	reasons, strength int
	http2, handles    bool
}

// tables are func() [][]int by table.
var tables sync.Map

// large plays contents of many blocks, with identities, digests and
// compressions taking turns.
func (m *matrix) large(t *testing.T, road sideeffect.Road) {
	if road == sideeffect.RoadSession && m.HTTP2 {
		return
	}
	sizes := largeSizes
	if m.o.Brief {
		sizes = briefSizes
	}
	for i, size := range sizes {
		for dir := range 2 {
			for k := range 4 - 3*i {
				turn := 4*i + 2*dir + k
				c := Case{
					Road: road, Direction: sideeffect.Direction(1 + dir), Size: size,
					Source: [...]SourceKind{FromFile, FromStream, FromMemory, FromFD}[(turn+i)%4],
					Sink:   [...]SinkKind{ToFile, ToWriter, ToBuffer, ToExact}[(turn+dir)%4],
					Mode:   [...]sideeffect.Mode{sideeffect.Replace, sideeffect.Append, sideeffect.Truncate}[turn%3],
					Hash:   sideeffect.Algorithm((turn + int(road)) % 4), Compress: sideeffect.Compression((turn + int(road)) % 4),
					Random: k%2 == 0, Await: sideeffect.Await(k / 2 % 2),
					SinkQuota: Quota(k), SinkOver: sideeffect.Cut,
				}
				m.check(t, c)
			}
		}
	}
}

// check plays a case and reports what is wrong with it.
func (m *matrix) check(t *testing.T, c Case) {
	t.Helper()
	p := m.play(t, c)
	if w := p.wrong(); len(w) > 0 {
		t.Errorf("%v\nexpected %+v\n\t%s", c, p.x, strings.Join(w, "\n\t"))
	}
}

// play makes the call of a case.
func (m *matrix) play(t *testing.T, c Case) *played {
	t.Helper()
	m.count++
	m.o.Calls.Add(1)
	x := Expect(c, m.HTTP2)
	content := Content(c.Size, c.Random)
	p := &played{c: c, x: x}
	if off := c.sourceOffset(); off <= int64(c.Size) {
		p.payload = content[off:][:min(x.Moved, int64(c.Size)-off)]
	}
	from, sourceDone := m.shelf.source(t, c.Source, content)
	to := m.shelf.sink(t, c, x.Moved)
	p.before = to.before
	p.client, p.server = c.descriptors(from, to.identity)
	m.perform(t, p)
	p.after = to.after()
	sourceDone()
	to.done()
	p.extra = m.clear(t)
	return p
}

// perform makes the call.
func (m *matrix) perform(t *testing.T, p *played) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	run := runs(p.server, p.c.Await)
	p.call = m.call(ctx, fmt.Sprint("case ", m.count), func(ctx context.Context) error {
		p.ran = true
		if p.handler = run(ctx); p.handler != nil && !p.c.Swallow {
			return p.handler
		}
		return nil
	}, p.client)
}

// descriptors are those of client and server.
func (c Case) descriptors(from, to sideeffect.Identity) (client, server *sideeffect.Descriptor) {
	n := max(0, int64(c.Size)-c.sourceOffset())
	source := &sideeffect.Descriptor{
		Direction: c.Direction, Local: from, Offset: c.sourceOffset(), Quota: c.SourceQuota.of(n), OverQuota: c.SourceOver,
		Compress: c.Compress,
	}
	sink := &sideeffect.Descriptor{
		Direction: c.Direction, Local: to, Offset: c.sinkOffset(), Quota: c.SinkQuota.of(n), OverQuota: c.SinkOver, Mode: c.Mode,
		Compress: c.Compress,
	}
	if c.HashAt != AtSink {
		source.Hash = c.Hash
	}
	if c.HashAt != AtSource {
		sink.Hash = c.Hash
	}
	if client, server = source, sink; !c.clientSends() {
		client, server = sink, source
	}
	client.Road = c.Road
	return client, server
}

// clear empties the folder, and returns the names that have no business there.
func (m *matrix) clear(t *testing.T) (extra []string) {
	t.Helper()
	for _, n := range m.shelf.names(t) {
		if n != "source" && n != "sink" {
			extra = append(extra, n)
		}
		if err := os.Remove(m.shelf.path(n)); err != nil {
			t.Fatal(err)
		}
	}
	return extra
}
