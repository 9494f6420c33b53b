package metrics

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/spec/fault"
)

// used are metrics of which each has counted something.
func used(t *testing.T) *Metrics {
	t.Helper()
	book := engine.Book{Partners: map[string]*engine.Partner{"hostb": {}}, Rules: map[string]*engine.Rule{"push": {}}}
	m := New("v1", func() engine.Book { return book })
	r := &lifecycle.Record{Side: lifecycle.Sender, State: lifecycle.Done, Spec: lifecycle.Spec{Partner: "hostb", Rule: "push"}}
	m.Committed(r, []lifecycle.Event{lifecycle.Conclude{}, lifecycle.Interrupt{Reason: lifecycle.Retrying, Failure: lifecycle.Failure{Kind: fault.Lost}}}, false, time.Millisecond)
	for _, kind := range []engine.ActKind{engine.ActAttempt, engine.ActStep, engine.ActTask, engine.ActCall, engine.ActBytes} {
		a := m.Begin(r, kind, "TRANSFERTASK", "")
		a.Moved(7)
		a.Held(time.Second)
		if kind != engine.ActAttempt {
			a.End(nil)
		}
	}
	m.Wasted(r, 5)
	m.Crashed()
	m.Scheduled("push", "send", "made")
	m.Expected("hostb", "push", "late")
	total := Relay{Partner: "hostb"}
	total.Add(&relay.Stats{Open: 1, Opened: 2, Refused: 3, Failed: 4, ToPeer: 5, FromPeer: 6})
	m.Watch(Sources{
		Load: func() engine.Load {
			return engine.Load{Running: 1, Ready: 2, Waiting: 3, Oldest: time.Minute, Partners: []engine.PartnerStatus{{Name: "hostb", Connected: true, RTT: time.Millisecond}}}
		},
		Keys:     func() map[string]int { return map[string]int{"hostb": 2} },
		Sessions: func() (int, int) { return 1, 2 },
		Relays:   func() []Relay { return []Relay{total} },
		Folders: func() []Folder {
			return []Folder{{Name: "outbox", Waiting: 3, Failed: 1, Events: true, Scanned: time.Unix(1700000000, 0)}}
		},
		Backlog: func() int { return 1 },
	})
	return m
}

func get(h http.Handler) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	b, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(b)
}

// listed are the metrics of spec/metrics.md, each with its kind and labels.
func listed(t *testing.T) map[string]string {
	t.Helper()
	doc, err := os.ReadFile("../../spec/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, line := range strings.Split(string(doc), "\n") {
		if cells := strings.Split(line, "|"); len(cells) > 4 && strings.HasPrefix(line, "| `pannier_") {
			all[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2]) + " " + strings.TrimSpace(cells[3])
		}
	}
	return all
}

// TestDocumented: spec/metrics.md has every metric that is served, with its kind and its
// labels, and no other.
func TestDocumented(t *testing.T) {
	families, err := used(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	list, served := listed(t), map[string]bool{}
	for _, f := range families {
		name := f.GetName()
		if !strings.HasPrefix(name, "pannier_") {
			continue
		}
		served[name] = true
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		is := strings.ToLower(f.GetType().String())
		kind, rest, _ := strings.Cut(list[name], " ")
		want := strings.Split(rest, ", ")
		if rest == "" {
			want = nil
		}
		slices.Sort(want)
		if kind != is || !slices.Equal(labels, want) {
			t.Errorf("%s is a %s with %v; the list says %q", name, is, labels, list[name])
		}
	}
	for name := range list {
		if !served[name] {
			t.Errorf("%s is listed and not served", name)
		}
	}
}

func TestLint(t *testing.T) {
	families, err := used(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// TestLabels: no metric has labels other than partner, rule, direction and status, but for those that
// spec/metrics.md gives reasons for.
func TestLabels(t *testing.T) {
	families, err := used(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				switch name, label := f.GetName(), l.GetName(); {
				case !strings.HasPrefix(name, "pannier_"): // of the process
				case slices.Contains([]string{"partner", "rule", "direction", "status"}, label):
				case label == "folder" && strings.HasPrefix(name, "pannier_folder_"):
				case label == "version" && name == "pannier_build_info":
				default:
					t.Errorf("%s has the label %s", name, label)
				}
			}
		}
	}
}

// TestStrangers: names that are not in the configuration, and kinds of failure that nobody here knows, make
// no series.
func TestStrangers(t *testing.T) {
	m := used(t)
	before := series(t, m)
	for i := range 1000 {
		r := &lifecycle.Record{Side: lifecycle.Receiver, State: lifecycle.InError, Spec: lifecycle.Spec{Partner: fmt.Sprint("p", i), Rule: fmt.Sprint("r\n", i)}}
		m.Committed(r, []lifecycle.Event{lifecycle.Fail{}}, false, 0)
		m.Committed(r, []lifecycle.Event{lifecycle.Interrupt{Reason: lifecycle.Retrying, Failure: lifecycle.Failure{Kind: fault.Kind(1000 + i)}}}, false, 0)
		m.Uncommitted(fault.New("write", fault.Kind(1000+i), "x"))
		m.Wasted(r, 1)
		m.Begin(r, engine.ActBytes, "", "").Moved(1)
		m.Begin(r, engine.ActAttempt, "", "").End(nil)
	}
	if made := series(t, m) - before; made > 5 { // transfers, retries, wasted, bytes, active
		t.Errorf("a thousand strangers have made %d series", made)
	}
	_, text := get(m.Handler())
	if want := `pannier_transfers_total{direction="receive",partner="other",rule="other",status="failed"} 1000`; !strings.Contains(text, want) {
		t.Errorf("no %s", want)
	}
}

func series(t *testing.T, m *Metrics) (n int) {
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "pannier_") {
			n += len(f.GetMetric())
		}
	}
	return n
}

func TestHealth(t *testing.T) {
	var down error
	ready := Ready(Condition{"store", func() error { return nil }}, Condition{"draining", func() error { return down }})
	if code, text := get(ready); code != 200 || text != "store: ok\ndraining: ok\n\n" {
		t.Errorf("%d %q", code, text)
	}
	down = errors.New("it goes down")
	if code, text := get(ready); code != 503 || text != "store: ok\ndraining: it goes down\n\n" {
		t.Errorf("%d %q", code, text)
	}
	if code, _ := get(Live()); code != 200 {
		t.Errorf("livez is %d", code)
	}
}
