package lifecycle

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/scorecard/score"
)

// model is one configuration of the two ends, and the code that they run: the
// real Apply, Next and Admit, or a mutant of them.
type model struct {
	push      bool
	tasks     uint8 // 1: a pre and a post task at each end
	operators bool  // operators stop, resume, cancel and retry, and things fail for good
	changes   bool  // the source changes
	mutant    mutation
	units     uint8 // of the content; 0: two
	inFlight  int   // most calls on their way at a time; 0: maxCalls

	blank [2]Record
}

func (m *model) String() string {
	s := "pull"
	if m.push {
		s = "push"
	}
	return fmt.Sprintf("%s, %d tasks, operators %t, source changes %t", s, m.tasks, m.operators, m.changes)
}

// flaw is what a world, or the step that led to it, has wrong.
type flaw uint8

const (
	fine          flaw = iota
	refusedEvent       // the driver did what Apply refuses
	mismatched         // Reconcile says Mismatch
	spins              // an answer gives no turn
	staleAnswer        // the call that is awaited was refused as stale
	ranTwice           // (d) a task ran again without a crash inside it
	bytesTooEarly      // the receiver has bytes before the sender's pre tasks are done
	postTooEarly       // (a) the sender's post task runs before the receiver is POSTED
	finishedR          // (b) the receiver is FINISHED before the sender is POSTED
	finishedS          // (c) the sender is FINISHED before the receiver
	rankAhead          // (g) the offset is ahead of the disk
	spliced            // bytes of two versions under one name
	disagree           // the ends speak of different contents
	deadEnd            // (e) DONE/DONE is out of reach
)

func (f flaw) String() string {
	return nameOf([]string{"", "event refused", "mismatch", "spins", "stale answer", "task ran twice", "bytes too early", "post task too early",
		"receiver finished too early", "sender finished too early", "rank ahead of disk", "spliced", "disagree", "dead end"}, uint8(f))
}

// check looks at one world.
func (m *model) check(w *world) flaw {
	s, r := w.end[m.sender()], w.end[m.receiver()]
	over := func(e end, p Phase) bool { return e.phase >= p || e.purged }
	switch {
	case w.flaw != 0:
		return w.flaw
	case s.phase == Post && w.run[m.sender()].body != 0 && !s.failing && !over(r, Posted), s.phase >= Acked && !over(r, Posted):
		return postTooEarly
	case r.known && r.phase >= Moving && s.known && s.tasks[PreList] < m.tasks:
		return bytesTooEarly
	case r.phase == Finished && !over(s, Posted):
		return finishedR
	case (s.phase == Finished || s.purged) && !over(r, Finished):
		return finishedS
	case r.known && r.rank > w.disk.synced:
		return rankAhead
	case r.phase >= Whole && w.disk.mixed:
		return spliced
	case s.phase >= Acked && r.known && s.known && (s.size != r.size || s.proof != 0 && s.proof != r.proof):
		return disagree
	}
	return fine
}

// done is where every request should be able to get.
func (w *world) done() bool {
	for _, e := range w.end {
		if e.state != Done && !e.purged {
			return false
		}
	}
	return true
}

// result of a search.
type result struct {
	worlds int
	bad    map[flaw]int
	first  map[flaw]string // how the first one came about
	pairs  [Finished + 1][Finished + 1]bool
}

// search walks through every world that can be, and back from the good ends.
func (m *model) search() result {
	m.prepare()
	w := m.first()
	g := graph{index: map[world]int32{w: 0}, worlds: []world{w}, parent: []int32{-1}, label: []string{"register"}}
	res := result{bad: map[flaw]int{}, first: map[flaw]string{}}
	for at := int32(0); int(at) < len(g.worlds); at++ {
		w := g.worlds[at]
		if f := m.check(&w); f != fine {
			res.note(&g, f, at)
		}
		res.pairs[w.end[m.sender()].phase][w.end[m.receiver()].phase] = true
		m.successors(w, func(label string, next world) {
			m.normalise(&next)
			g.add(at, label, next)
		})
	}
	res.worlds = len(g.worlds)
	for at, good := range g.backFromDone() {
		if !good && g.worlds[at].flaw == 0 {
			res.note(&g, deadEnd, int32(at))
		}
	}
	return res
}

func (m *model) prepare() {
	m.units, m.inFlight = cmp.Or(m.units, 2), cmp.Or(m.inFlight, maxCalls)
	m.blank[requester] = m.newRecord(Requester)
	m.blank[requested] = m.newRecord(Requested)
}

// first is the world in which the request is registered and nothing else.
func (m *model) first() (w world) {
	w.end[requester] = pack(&m.blank[requester])
	return w
}

func (m *model) newRecord(role Role) Record {
	k, s := Key{Requester: "a"}, Spec{Partner: "b", Rule: "r", Tasks: [3]uint8{m.tasks, m.tasks, 0}}
	if m.operators {
		s.Tasks[ErrorList] = m.tasks
	}
	side := Receiver
	if m.push == (role == Requester) {
		side = Sender
	}
	r, err := Register(k, side, s, modelTime)
	if role == Requested {
		r, err = Accept(k, side, s, modelTime, modelTime)
	}
	if err != nil {
		panic(err)
	}
	return r
}

func (res *result) note(g *graph, f flaw, at int32) {
	if res.bad[f]++; res.bad[f] == 1 {
		res.first[f] = g.trace(at)
	}
}

// graph is the worlds in the order they were found.
type graph struct {
	index    map[world]int32
	worlds   []world
	parent   []int32
	label    []string
	from, to []int32 // edges
}

func (g *graph) add(from int32, label string, w world) {
	to, ok := g.index[w]
	if !ok {
		to = int32(len(g.worlds))
		g.index[w] = to
		g.worlds, g.parent, g.label = append(g.worlds, w), append(g.parent, from), append(g.label, label)
	}
	g.from, g.to = append(g.from, from), append(g.to, to)
}

// backFromDone marks the worlds from which a done one can be reached.
func (g *graph) backFromDone() []bool {
	start := make([]int32, len(g.worlds)+1) // edges by their target: counting sort
	for _, t := range g.to {
		start[t+1]++
	}
	for i := range g.worlds {
		start[i+1] += start[i]
	}
	sources, fill := make([]int32, len(g.to)), slices.Clone(start)
	for e, t := range g.to {
		sources[fill[t]] = g.from[e]
		fill[t]++
	}
	good, queue := make([]bool, len(g.worlds)), []int32{}
	for i := range g.worlds {
		if g.worlds[i].done() && g.worlds[i].flaw == 0 {
			good[i], queue = true, append(queue, int32(i))
		}
	}
	for len(queue) > 0 {
		at := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, s := range sources[start[at]:start[at+1]] {
			if !good[s] {
				good[s], queue = true, append(queue, s)
			}
		}
	}
	return good
}

// trace is how a world came about, a step a line.
func (g *graph) trace(at int32) string {
	var lines []string
	for ; at >= 0; at = g.parent[at] {
		w := &g.worlds[at]
		lines = append(lines, fmt.Sprintf("  %-22s requester %v %-10s | requested %v %-10s | rank %d %d, disk %v, calls %v",
			g.label[at], w.end[0].state, w.end[0].phase.Name(0), w.end[1].state, w.end[1].phase.Name(0), w.end[0].rank, w.end[1].rank, w.disk, w.calls))
	}
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}

var long = flag.Bool("long", false, "search larger models: minutes")

// models that every change is searched with: about a second in all.
func models(long bool) []*model {
	all := []model{
		{tasks: 1, inFlight: 2},
		{changes: true, inFlight: 1},
		{operators: true, inFlight: 1, units: 1},
	}
	if long {
		all = []model{
			{tasks: 1}, {}, {tasks: 1, changes: true}, {operators: true, inFlight: 2},
			{tasks: 1, operators: true, inFlight: 1, units: 1}, {operators: true, changes: true, inFlight: 1},
		}
	}
	var both []*model
	for _, m := range all {
		push, pull := m, m
		push.push = true
		both = append(both, &push, &pull)
	}
	return both
}

// TestModel is check 14: each pair of phases has one answer; no run of two ends,
// whatever is lost, repeated, delayed or crashes, does what it must not; each can
// still come to its end; the pairs that can be are those that have an answer other than
// a mismatch; and the mutants of the protocol are found.
func TestModel(t *testing.T) {
	worlds, found, answered := 0, 0, 0
	t.Run("pairs", func(t *testing.T) { answered = answers(t) })
	t.Run("worlds", func(t *testing.T) { worlds = searchAll(t) })
	t.Run("mutants", func(t *testing.T) { found = findMutants(t) })
	score.Report(t, float64(worlds), fmt.Sprintf("%d pairs have a move, %d are a mismatch; %d of %d mutants found", answered,
		int(Finished+1)*int(Finished+1)-answered, found, len(mutants)-1))
}

// answers wants the same answer at both ends for each pair, whatever else is in the
// record, and returns how many are no mismatch.
func answers(t *testing.T) (n int) {
	for s := Unknown; s <= Finished; s++ {
		for r := Unknown; r <= Finished; r++ {
			m := Reconcile(s, r)
			if m != Mismatch {
				n++
			}
			for _, role := range []Role{Requester, Requested} {
				sender := Record{Role: role, Side: Sender, Phase: s, Rank: 7, Streak: 3, Attempt: 2}
				receiver := Record{Role: role.Other(), Side: Receiver, Phase: r, Rank: 9, Begun: 5}
				if a, b := sender.reconcile(r), receiver.reconcile(s); a != m || b != m {
					t.Errorf("%v and %v: the sender says %v, the receiver %v, the table %v", s.Name(Sender), r.Name(Receiver), a, b, m)
				}
			}
		}
	}
	for s, r := range map[Phase]Phase{Finished + 1: Posted, Posted: Finished + 1, 255: 255} {
		if m := Reconcile(s, r); m != Mismatch {
			t.Errorf("phases %d and %d, which nobody knows: %v", s, r, m)
		}
	}
	return n
}

func searchAll(t *testing.T) (worlds int) {
	var pairs [Finished + 1][Finished + 1]bool
	for _, m := range models(*long || score.N(1) > 1) {
		res := m.search()
		worlds += res.worlds
		t.Logf("%v: %d worlds", m, res.worlds)
		for _, f := range slices.Sorted(maps.Keys(res.bad)) {
			t.Errorf("%v: %v in %d worlds; the first:\n%s", m, f, res.bad[f], res.first[f])
		}
		for s := range pairs {
			for r := range pairs[s] {
				pairs[s][r] = pairs[s][r] || res.pairs[s][r]
			}
		}
	}
	reached := pairsTable(func(s, r Phase) byte {
		if pairs[s][r] {
			return letters[max(Reconcile(s, r), Prepare)]
		}
		return letters[Mismatch]
	})
	if want := pairsTable(func(s, r Phase) byte { return letters[Reconcile(s, r)] }); reached != want {
		t.Errorf("the pairs of phases that are reached:\n%s\nthose that Reconcile answers:\n%s", reached, want)
	}
	return worlds
}
