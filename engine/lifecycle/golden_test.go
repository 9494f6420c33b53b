package lifecycle

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file of testdata, line by line.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(b), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s, line %d:\ngot  %q\nwant %q", path, i+1, strings.Join(g[i:min(i+1, len(g))], ""), strings.Join(w[i:min(i+1, len(w))], ""))
		}
	}
}

// oldEpoch held the record before; heldEpoch does when it is RUNNING.
const (
	oldEpoch  = 3
	heldEpoch = 7
)

// column is an event of the golden table.
type column struct {
	name string
	make func(r *Record) Event
}

// columns are all events, those of a runner under the claim of epoch.
func columns(epoch uint64) []column {
	fixed := func(name string, e Event) column { return column{name, func(*Record) Event { return e }} }
	return []column{
		{"Claim", func(r *Record) Event { return Claim{heldEpoch + 1, callFor(r)} }},
		{"Advance", func(r *Record) Event { return Advance{Epoch: epoch, To: r.Phase + 1, Rank: 9} }},
		{"skip", func(r *Record) Event { return Advance{Epoch: epoch, To: r.Phase + 2, Rank: 9} }},
		fixed("BeginTask", BeginTask{epoch}),
		fixed("EndTask", EndTask{Epoch: epoch}),
		fixed("Durable", Durable{Epoch: epoch, Rank: 9}),
		fixed("less", Durable{Epoch: epoch, Rank: 4}),
		fixed("Rewind", Rewind{Epoch: epoch, Rank: 0, Size: -1}),
		fixed("more", Rewind{Epoch: epoch, Rank: 6, Size: -1}),
		fixed("Interrupt", Interrupt{epoch, Retrying, Requester, testTime, Failure{Kind: fault.Lost}, false}),
		fixed("Fail", Fail{epoch, Failure{Kind: fault.IO}}),
		fixed("Settle", Settle{epoch}),
		fixed("Conclude", Conclude{epoch}),
		fixed("Recover", Recover{Due: testTime}),
		fixed("Stop", Stop{epoch, testTime}),
		fixed("Stop/0", Stop{0, testTime}),
		fixed("Resume", Resume{testTime}),
		fixed("Cancel", Cancel{Epoch: epoch}),
		fixed("Cancel/0", Cancel{}),
		fixed("Retry", Retry{Due: testTime}),
	}
}

func callFor(r *Record) Call {
	if r.Role == Requester {
		return Call{}
	}
	return Call{Attempt: r.Attempt + 1, Phase: Accepted}
}

// situation is a row of the golden table.
type situation struct {
	name string
	Record
}

// situations are records in every state, phase, and state of their tasks.
func situations(role Role, side Side) (all []situation) {
	add := func(name string, s State, p Phase, change func(*Record)) {
		r := Record{Key: Key{Requester: "a"}, Role: role, Side: side, State: s, Phase: p, Attempt: 4, Streak: 1, Epoch: heldEpoch}
		r.Spec.Tasks = [3]uint8{1, 1, 1}
		if p > Pre {
			r.Tasks[PreList] = 1
		}
		if p > Post {
			r.Tasks[PostList] = 1
		}
		if p >= Moving {
			r.Rank, r.Peak = 5, 5
		}
		if s == Interrupted {
			r.Reason, r.Owner, r.Due = Retrying, Requester, testTime
		}
		if s == ToSubmit {
			r.Due = testTime
		}
		change(&r)
		if s == InError || r.Failing {
			r.Failure = Failure{Kind: fault.IO, At: testTime}
		}
		all = append(all, situation{strings.TrimSpace(s.String() + " " + p.Name(side) + " " + name), r})
	}
	as := func(*Record) {}
	stopped := func(r *Record) { r.Reason, r.Owner = Stopped, role }
	failing := func(r *Record) { r.Failing, r.Owner = true, role }
	for _, p := range Phases() {
		for _, s := range []State{ToSubmit, Running, Interrupted, InError} {
			if s != ToSubmit || role == Requester {
				add("", s, p, as)
			}
		}
		if p == Pre || p == Post {
			add("task begun", Running, p, func(r *Record) { r.Begun = heldEpoch })
			add("task torn", Running, p, func(r *Record) { r.Begun = oldEpoch })
			add("tasks done", Running, p, func(r *Record) { r.Tasks = [3]uint8{1, 1, 0} })
		}
		add("failing", Running, p, func(r *Record) { r.Failing = true })
	}
	add("stopped here", Interrupted, Moving, stopped)
	add("stopped there", Interrupted, Moving, func(r *Record) { r.Reason, r.Owner = Stopped, role.Other() })
	add("failing", Interrupted, Moving, failing)
	add("failing, task begun", Running, Moving, func(r *Record) { r.Failing, r.Begun = true, heldEpoch })
	add("failing, tasks done", Running, Moving, func(r *Record) { r.Failing, r.Tasks[ErrorList] = true, 1 })
	add("error tasks have run", InError, Moving, func(r *Record) { r.Failing, r.Tasks[ErrorList] = true, 1 })
	add("", Done, Finished, as)
	return all
}

// outcome is what an event does to a record, in a few letters.
func outcome(t *testing.T, r Record, e Event) string {
	before := r
	err := r.Apply(e, testTime)
	switch {
	case err != nil && r != before:
		t.Errorf("%T was refused and has changed the record", e)
	case fault.KindOf(err) == fault.Stale && err != nil:
		return "stale"
	case fault.KindOf(err) == fault.Invalid && err != nil:
		return "."
	case err != nil:
		t.Errorf("%T: %v", e, err)
	}
	s := r.State.String()[:3]
	if r.Phase != before.Phase {
		s += ">" + r.Phase.Name(r.Side)
	}
	if r.Failing && !before.Failing {
		s += "!"
	}
	if err := invariant(&r); err != nil {
		t.Errorf("%T: %v", e, err)
	}
	return s
}

// TestEvents prints every event in every state, at every end, and once more under
// a claim that is over.
func TestEvents(t *testing.T) {
	var b strings.Builder
	for _, role := range []Role{Requester, Requested} {
		for _, side := range []Side{Sender, Receiver} {
			for _, epoch := range []uint64{heldEpoch, oldEpoch} {
				fmt.Fprintf(&b, "%v, %v, events of epoch %d, held is %d\n", role, side, epoch, heldEpoch)
				eventTable(t, &b, situations(role, side), columns(epoch))
				b.WriteString("\n")
			}
		}
	}
	golden(t, "events.txt", b.String())
}

func eventTable(t *testing.T, b *strings.Builder, rows []situation, cols []column) {
	fmt.Fprintf(b, "%-38s", "")
	for _, c := range cols {
		fmt.Fprintf(b, "%-14s", c.name)
	}
	for _, row := range rows {
		line := fmt.Sprintf("\n%-38s", row.name)
		for _, c := range cols {
			line += fmt.Sprintf("%-14s", outcome(t, row.Record, c.make(&row.Record)))
		}
		b.WriteString(strings.TrimRight(line, " "))
	}
	b.WriteString("\n")
}

// TestTranscripts prints an undisturbed push and pull, with a task in each list, and a push
// without any: the sequences of spec/engine.md, "Messages".
func TestTranscripts(t *testing.T) {
	for name, m := range map[string]*model{"push.txt": {push: true, tasks: 1}, "pull.txt": {tasks: 1}, "offer.txt": {push: true}} {
		golden(t, name, m.transcript(t))
	}
}

func (m *model) transcript(t *testing.T) string {
	m.prepare()
	disturbs := map[string]bool{"lose": true, "crash": true, "purge": true, "give up": true, "stream lost": true}
	var b strings.Builder
	for w := m.first(); !w.done(); {
		last := w
		m.successors(last, func(label string, next world) {
			if disturbs[label] || w != last {
				return
			}
			if w = next; label == "deliver" {
				w.calls = [maxCalls]call{} // once
			}
			fmt.Fprintf(&b, "%-22s requester %-11v %-10s requested %-11v %s\n", label,
				w.end[0].state, w.end[0].phase.Name(m.blank[0].Side), w.end[1].state, w.end[1].phase.Name(m.blank[1].Side))
		})
		if w == last {
			t.Fatalf("no way on:\n%s", b.String())
		}
	}
	return b.String()
}
