package top

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/spec/adminpb"
)

func shown(requests ...*adminpb.Request) *model {
	m := &model{ctx: context.Background(), now: time.Now, width: 100, height: 20}
	m.Update(asked{shot: snapshot{node: &adminpb.Node{Name: "here"}, requests: requests, partners: []*adminpb.Partner{{Name: "up", Connected: true}, {Name: "away", Failure: &adminpb.Failure{Name: "lost"}}}}})
	return m
}

func press(m *model, keys ...string) {
	for _, k := range keys {
		msg := tea.KeyPressMsg{Text: k, Code: []rune(k)[0]}
		switch k {
		case "enter":
			msg = tea.KeyPressMsg{Code: tea.KeyEnter}
		case "esc":
			msg = tea.KeyPressMsg{Code: tea.KeyEscape}
		case "down":
			msg = tea.KeyPressMsg{Code: tea.KeyDown}
		case "end":
			msg = tea.KeyPressMsg{Code: tea.KeyEnd}
		}
		m.Update(msg)
	}
}

func many(n int) (all []*adminpb.Request) {
	for i := range n {
		all = append(all, &adminpb.Request{Id: fmt.Sprintf("%032x", i), Partner: fmt.Sprint("p", i%7), Source: fmt.Sprint("file", i), Side: adminpb.Request_SENDER,
			State: adminpb.Request_State(1 + i%4), Size: int64(i), Live: &adminpb.Live{Rate: float64(i), Total: -1}})
	}
	return all
}

// TestFits: on a screen of any size nothing is wider or higher than it, and who is chosen is
// on it.
func TestFits(t *testing.T) {
	m := shown(many(500)...)
	for w := range 130 {
		for _, h := range []int{0, 1, 2, 3, 4, 5, 6, 24, 600} {
			m.Update(tea.WindowSizeMsg{Width: w, Height: h})
			press(m, "end")
			lines := m.lines()
			if len(lines) > max(h, 1) {
				t.Fatalf("%d x %d: %d lines", w, h, len(lines))
			}
			chosen := false
			for _, l := range lines {
				if ansi.StringWidth(l) > max(w, 1) {
					t.Fatalf("%d x %d: %q is %d wide", w, h, l, ansi.StringWidth(l))
				}
				chosen = chosen || strings.HasPrefix(l, ">") || w < 2
			}
			if !chosen {
				t.Fatalf("%d x %d: nobody sees who is chosen", w, h)
			}
		}
	}
}

// TestColumns: names take no more room than they need, so that the reason of a failure is read on a
// terminal of 130 columns; and all that is safe is 100 %.
func TestColumns(t *testing.T) {
	m := shown(&adminpb.Request{
		Id: strings.Repeat("1", 32), Partner: "hostb", Source: "a.mov", Side: adminpb.Request_SENDER, State: adminpb.Request_INERROR, Size: 10, Durable: 10,
		Failure: &adminpb.Failure{Name: "refused", Cause: "task exec: run command: the log there says more"},
	})
	m.Update(tea.WindowSizeMsg{Width: 130, Height: 10})
	lines := strings.Join(m.lines(), "\n")
	if !strings.Contains(lines, "INERROR refused: task exec: run command: the log there says more") || !strings.Contains(lines, " 100% ") || !strings.Contains(lines, "PARTNER") {
		t.Error(lines)
	}
}

// TestWhy: of who is chosen the state is seen as far as the whole line goes, however long the names are.
func TestWhy(t *testing.T) {
	cause := "post task 1 has failed: exec /usr/local/bin/scan has ended with code 3, see its log"
	m := shown(&adminpb.Request{Id: strings.Repeat("ab", 16), Partner: "hostb", Source: strings.Repeat("long/", 30) + "name", Side: adminpb.Request_SENDER,
		State: adminpb.Request_INERROR, Failure: &adminpb.Failure{Name: "refused", Cause: cause}})
	m.width = 130
	lines := m.lines()
	if at := lines[len(lines)-2]; at != "abababab: INERROR refused: "+cause {
		t.Errorf("%q", at)
	}
}

// TestState: bytes that move say how long they will, and what is paused that it is, without the time when
// it is given up, which reads as if it went on then.
func TestState(t *testing.T) {
	m := shown()
	m.now = func() time.Time { return time.Unix(1000, 0) }
	due := timestamppb.New(time.Unix(1030, 0))
	for want, r := range map[string]*adminpb.Request{
		"RUNNING moving bytes, 1m21s left, held by disk": {State: adminpb.Request_RUNNING, Live: &adminpb.Live{Doing: "moving bytes", Limit: "disk", Total: 910, Durable: 100, Rate: 10}},
		"RUNNING moving bytes, 1s left":                  {State: adminpb.Request_RUNNING, Live: &adminpb.Live{Doing: "moving bytes", Total: 101, Durable: 100, Rate: 10}},
		"INTERRUPTED retrying, in 30s":                   {State: adminpb.Request_INTERRUPTED, Reason: "retrying", Due: due},
		"INTERRUPTED paused here":                        {State: adminpb.Request_INTERRUPTED, Reason: "stopped", Due: due},
	} {
		if got := m.state(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestHostile: names and causes give the terminal no orders.
func TestHostile(t *testing.T) {
	bad := "\x1b[2J\x1b]0;x\x07\u202egnp\n\r\t\u009b31m"
	m := shown(&adminpb.Request{Id: bad, Partner: bad, Source: bad, Target: bad, Side: adminpb.Request_SENDER, State: adminpb.Request_INERROR, Failure: &adminpb.Failure{Name: bad, Cause: bad},
		Reason: bad, Live: &adminpb.Live{Doing: bad, Limit: bad}})
	m.shot.partners = append(m.shot.partners, &adminpb.Partner{Name: bad, Failure: &adminpb.Failure{Name: bad}})
	m.said, m.width = bad, 1000
	for range 2 {
		for _, l := range m.lines() {
			if i := strings.IndexFunc(l, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("%q", l)
			}
		}
		press(m, "c")
	}
}

// TestFilterAndSort: what is chosen stays chosen.
func TestFilterAndSort(t *testing.T) {
	m := shown(many(50)...)
	press(m, "down", "down", "s")
	if orders[m.sort].name != "rate" {
		t.Fatal(orders[m.sort].name)
	}
	if m.rows[0].GetSource() != "file49" {
		t.Errorf("the fastest is %s", m.rows[0].GetSource())
	}
	press(m, "/", "f", "i", "l", "e", "4", " ", "p", "6", "enter")
	for _, r := range m.rows {
		if r.GetPartner() != "p6" || !strings.HasPrefix(r.GetSource(), "file4") {
			t.Errorf("%s of %s is shown", r.GetSource(), r.GetPartner())
		}
	}
	if len(m.rows) == 0 || m.index() < 0 {
		t.Errorf("%d rows, %d chosen", len(m.rows), m.index())
	}
	at := m.at
	m.Update(asked{shot: m.shot})
	if m.at != at {
		t.Error("another is chosen after a while")
	}
	press(m, "/", "esc")
	if len(m.rows) != 50 {
		t.Errorf("%d rows without a filter", len(m.rows))
	}
	text := strings.Join(m.lines(), "\n")
	if !strings.Contains(text, "away 0/0 DOWN: lost  up 0/0") {
		t.Errorf("%s", text)
	}
}

// TestCancelAsks: a cancel is not said without a second key.
func TestCancelAsks(t *testing.T) {
	m := shown(many(1)...)
	press(m, "c")
	if _, cmd := m.Update(tea.KeyPressMsg{Text: "n", Code: 'n'}); cmd != nil || m.said != "not cancelled" {
		t.Error("it was cancelled")
	}
	press(m, "c")
	if _, cmd := m.Update(tea.KeyPressMsg{Text: "y", Code: 'y'}); cmd == nil {
		t.Error("it was not cancelled")
	}
}
