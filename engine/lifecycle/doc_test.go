package lifecycle

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// document is what spec/engine.md says.
func document(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../spec/engine.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// table is the rows of a document's table, by its heading.
func table(t *testing.T, doc, heading string) [][]string {
	t.Helper()
	_, rest, ok := strings.Cut(doc, heading+"\n")
	if !ok {
		t.Fatalf("spec/engine.md has no table %q", heading)
	}
	var rows [][]string
	for _, line := range strings.Split(rest, "\n")[1:] {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

func compare(t *testing.T, what string, got, want [][]string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		g, w := []string{"(none)"}, []string{"(none)"}
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if !slices.Equal(g, w) {
			t.Errorf("%s: spec/engine.md has %q, the code is %q", what, g, w)
		}
	}
}

// TestDiagrams: the diagram and the ladder are the same in the package's doc and in
// the document; they name all states, and all events that change the state.
func TestDiagrams(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var inside []string
	for _, line := range strings.Split(string(text), "\n") {
		if block, ok := strings.CutPrefix(line, "//\t"); ok {
			inside = append(inside, block)
		}
	}
	own, doc := strings.Join(inside, "\n"), document(t)
	diagram, ladder, _ := strings.Cut(own, "sender ")
	for _, block := range []string{strings.TrimRight(diagram, "\n"), "sender " + ladder} {
		if !strings.Contains(doc, "```\n"+block+"\n```") {
			t.Errorf("spec/engine.md lacks what doc.go has:\n%s", block)
		}
	}
	for s := ToSubmit; s <= Done; s++ {
		if !strings.Contains(diagram, s.String()) {
			t.Errorf("the diagram lacks %v", s)
		}
	}
	prose, _, _ := strings.Cut(strings.SplitAfter(string(text), diagramEnd)[1], "Phases,")
	for _, tr := range transitions {
		if tr.from != tr.to && !strings.Contains(diagram+prose, tr.name) {
			t.Errorf("the diagram lacks %s", tr.name)
		}
	}
	for side, line := range strings.Split("sender "+ladder, "\n") {
		var names []string
		for _, p := range Phases() {
			names = append(names, p.Name(Sender+Side(side)))
		}
		if got := strings.Fields(strings.ReplaceAll(line, ">", " "))[1:]; !slices.Equal(got, names) {
			t.Errorf("ladder %v, the code has %v", got, names)
		}
	}
}

const diagramEnd = "Interrupt, Stop, Recover\n"

func TestTransitionsTable(t *testing.T) {
	var want [][]string
	for _, tr := range transitions {
		want = append(want, []string{tr.name, tr.from.String(), tr.to.String(), map[bool]string{true: "held"}[tr.claimed], [...]string{"no", "may", "only"}[tr.failing]})
	}
	compare(t, "transitions", table(t, document(t), "| event | from | to | claim | while failing |"), want)
}

func (set states) String() string {
	var names []string
	for s := ToSubmit; s <= Done; s++ {
		if set.has(s) {
			names = append(names, s.String())
		}
	}
	return strings.Join(names, ", ")
}

// TestPhaseTable: names and steps.
func TestPhaseTable(t *testing.T) {
	rows := table(t, document(t), "| phase | global step | sender: durable fact | receiver: durable fact |")
	var got, want [][]string
	for _, r := range rows {
		got = append(got, r[:2])
	}
	for _, p := range Phases() {
		want = append(want, []string{bothNames(p), p.Step().String()})
	}
	compare(t, "phases", got, want)
}

func bothNames(p Phase) string {
	if s, r := p.Name(Sender), p.Name(Receiver); s != r {
		return s + " / " + r
	}
	return p.Name(Sender)
}

// TestRungsTable asks Apply which rung leads where, and when.
func TestRungsTable(t *testing.T) {
	var want [][]string
	for _, p := range Phases() {
		row := []string{bothNames(p), "", "", ""}
		for _, to := range Phases() {
			if climbs(p, to, Sender, false, 5) != climbs(p, to, Receiver, false, 5) {
				t.Errorf("%v to %v depends on the side", p, to)
			}
			if !climbs(p, to, Sender, false, 5) {
				continue
			}
			row[1] += bothNames(to)
			if !climbs(p, to, Sender, true, 5) {
				row[2] = map[Phase]string{Pre: "pre", Post: "post"}[p] + " tasks are left"
			}
			if !climbs(p, to, Sender, false, 2) {
				row[2] += "the size is below the rank"
			}
		}
		row[3] = ledBack(p)
		want = append(want, row)
	}
	compare(t, "rungs", table(t, document(t), "| rung | leads to | refused while | led back to MOVING by |"), want)
}

// running is a record of which three bytes are safe, under the claim of epoch 1.
func running(p Phase, side Side, left bool) Record {
	r := Record{Role: Requester, Side: side, State: Running, Phase: p, Epoch: 1, Rank: 3, Peak: 3, Attempt: 1}
	if left {
		r.Spec.Tasks = [3]uint8{1, 1, 0}
	}
	return r
}

func climbs(from, to Phase, side Side, left bool, size int64) bool {
	r := running(from, side, left)
	return r.Apply(Advance{Epoch: 1, To: to, Rank: size}, testTime) == nil
}

// ledBack lists what brings a phase to MOVING with fewer bytes, and where only on
// one side which.
func ledBack(p Phase) string {
	var by []string
	for _, e := range []Event{Rewind{Epoch: 1}, Cancel{Epoch: 1}} {
		var back []Side
		for _, side := range []Side{Sender, Receiver} {
			r := running(p, side, false)
			if r.Apply(e, testTime) == nil && r.Rank == 0 && r.Phase == Moving && (p != Moving || r.State == Running) {
				back = append(back, side)
			}
		}
		name := strings.TrimPrefix(fmt.Sprintf("%T", e), "lifecycle.")
		switch len(back) {
		case 1:
			by = append(by, fmt.Sprintf("%s of a %v", name, back[0]))
		case 2:
			by = append(by, name)
		}
	}
	return strings.Join(by, ", ")
}

// TestMovesTable: letters, names and turns.
func TestMovesTable(t *testing.T) {
	rows := table(t, document(t), "| | move | whose turn | the requester's call |")
	for m := Move(1); int(m) <= len(letters); m++ {
		if m == Move(len(letters)) {
			m = Mismatch
		}
		i := (int(m) + len(letters) - 1) % len(letters)
		if i >= len(rows) || rows[i][0] != letters[m:m+1] || rows[i][1] != m.String() {
			t.Fatalf("moves: row %d should be %c, %v: %q", i, letters[m], m, rows)
		}
		for _, side := range []Side{Sender, Receiver} {
			r := Record{Side: side, Role: Requester, Phase: Posted}
			if says := strings.HasPrefix(rows[i][2], side.String()); says != r.turn(m, Posted) && m != Prepare {
				t.Errorf("%v: %q, but the %v's turn is %t", m, rows[i][2], side, !says)
			}
		}
		if m == Mismatch {
			break
		}
	}
}

// pairsTable is a table of pairs as the document has it.
func pairsTable(letter func(s, r Phase) byte) string {
	var b strings.Builder
	line := func(cells []string) {
		for i, w := range []int{10, 7, 8, 3, 5, 6, 5, 9, 4, 6, 8} {
			fmt.Fprintf(&b, "%-*s ", w, cells[i])
		}
	}
	name := func(p Phase, s Side) string {
		if p == Unknown {
			return "unknown"
		}
		return p.Name(s)
	}
	for s := -1; s <= int(Finished); s++ {
		cells := []string{""}
		if s >= 0 {
			cells[0] = name(Phase(s), Sender)
		}
		for r := Unknown; r <= Finished; r++ {
			if s < 0 {
				cells = append(cells, name(r, Receiver))
			} else {
				cells = append(cells, string(letter(Phase(s), r)))
			}
		}
		line(cells)
		b.WriteString("\n")
	}
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func TestPairsTable(t *testing.T) {
	want := pairsTable(func(s, r Phase) byte { return letters[Reconcile(s, r)] })
	if !strings.Contains(document(t), "```\n"+want+"```") {
		t.Errorf("spec/engine.md lacks the table of pairs:\n%s", want)
	}
}
