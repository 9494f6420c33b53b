package node_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// ask is what a node answers at a path of Health.
func (h *host) ask(path string) (int, string) {
	mux := http.NewServeMux()
	for _, r := range h.node.Health() {
		mux.Handle(r.Pattern, r.Handler)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// metric is the value of a series; -1 without one.
func (h *host) metric(series string) float64 {
	h.t.Helper()
	_, text := h.ask("/metrics")
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(text)
	if m == nil {
		return -1
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

// TestMetrics: what has happened between two nodes is counted at both.
func TestMetrics(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	a.start(a.config(b.partner()))
	b.start(b.config(a.partner()))
	a.write("small", "from a")
	a.write("large", strings.Repeat("x", 3<<20))
	a.done(a.submit("b", "push", "small", "s2"))
	a.done(a.submit("b", "push", "large", "l2"))
	ref := a.submit("b", "push", "none", "n2")
	if r, err := a.node.Engine().Wait(context.Background(), ref); err != nil || r.State.String() != "INERROR" {
		t.Fatal(err, r.State)
	}
	for _, c := range []struct {
		at     *host
		series string
		want   float64
	}{
		{a, `pannier_transfers_total{direction="send",partner="b",rule="push",status="done"}`, 2},
		{a, `pannier_transfers_total{direction="send",partner="b",rule="push",status="failed"}`, 1},
		{b, `pannier_transfers_total{direction="receive",partner="a",rule="push",status="done"}`, 2},
		{a, `pannier_transfer_bytes_total{direction="send",partner="b",rule="push"}`, 3<<20 + 6},
		{b, `pannier_transfer_bytes_total{direction="receive",partner="a",rule="push"}`, 3<<20 + 6},
		{a, `pannier_partner_up{partner="b"}`, 1},
		{a, `pannier_queue_depth{status="ready"}`, 0},
		{a, `pannier_sessions{direction="dialled"}`, 1},
		{b, `pannier_sessions{direction="accepted"}`, 1},
		{a, `pannier_draining`, 0},
	} {
		eventually(t, func() bool { return c.at.metric(c.series) == c.want }, func() string {
			return c.at.name + ": " + c.series + " is " + strconv.FormatFloat(c.at.metric(c.series), 'g', -1, 64)
		})
	}
	eventually(t, func() bool {
		return a.metric(`pannier_active_transfers{direction="send",partner="b",rule="push"}`) == 0
	}, func() string { return "something is still active" })
	if a.metric(`pannier_store_commit_seconds_count`) < 6 || a.metric(`pannier_step_seconds_count{status="TRANSFERTASK"}`) < 1 {
		t.Error("commits and steps are not counted")
	}
}

// TestScrape: what a node serves that has sent, failed and expected is in the list of
// spec/metrics.md, with the same kind and the same labels.
func TestScrape(t *testing.T) {
	doc, err := os.ReadFile("../../spec/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds, labels := map[string]string{}, map[string][]string{}
	for _, line := range strings.Split(string(doc), "\n") {
		if cells := strings.Split(line, "|"); len(cells) > 4 && strings.HasPrefix(line, "| `pannier_") {
			name := strings.Trim(cells[1], " `")
			kinds[name] = strings.TrimSpace(cells[2])
			labels[name] = strings.FieldsFunc(cells[3], func(r rune) bool { return r == ' ' || r == ',' })
			slices.Sort(labels[name])
		}
	}
	a, b := newHost(t, "a"), newHost(t, "b")
	a.start(a.config(b.partner() + "[audit]\nenabled = true\n[[expect]]\nname = \"late\"\npartner = \"b\"\nrule = \"push\"\nfile = \"never\"\ncron = \"* * * * *\"\n"))
	b.start(b.config(a.partner()))
	a.write("x", "from a")
	a.done(a.submit("b", "push", "x", "x2"))
	if _, err := a.node.Engine().Wait(t.Context(), a.submit("b", "push", "none", "n2")); err != nil {
		t.Fatal(err)
	}
	_, text := a.ask("/metrics")
	series := regexp.MustCompile(`^(pannier_[a-z_]+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? \S+$`)
	seen := map[string]bool{}
	for _, line := range strings.Split(text, "\n") {
		if rest, ok := strings.CutPrefix(line, "# TYPE pannier_"); ok {
			name, kind, _ := strings.Cut("pannier_"+rest, " ")
			if seen[name] = true; kinds[name] != kind {
				t.Errorf("%s is a %s; the list says %q", name, kind, kinds[name])
			}
		}
		m := series.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		var got []string
		for _, l := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				got = append(got, l[1])
			}
		}
		if slices.Sort(got); !slices.Equal(got, labels[m[1]]) && !slices.Equal(labels[m[1]], nil) || len(got) != len(labels[m[1]]) {
			t.Errorf("%s has %v; the list says %v", m[1], got, labels[m[1]])
		}
	}
	for _, name := range []string{"pannier_transfers_total", "pannier_step_seconds", "pannier_partner_up", "pannier_audit_records_total", "pannier_build_info"} {
		if !seen[name] {
			t.Errorf("%s is not served", name)
		}
	}
}

func eventually(t testing.TB, holds func() bool, otherwise func() string) {
	t.Helper()
	for range 6000 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error(otherwise())
}

// TestReady: a node is ready while it answers, and says why when it is not.
func TestReady(t *testing.T) {
	a := newHost(t, "a")
	a.start(a.config(""))
	eventually(t, func() bool { code, _ := a.ask("/readyz"); return code == 200 }, func() string { _, text := a.ask("/readyz"); return text })
	if code, _ := a.ask("/livez"); code != 200 {
		t.Errorf("livez: %d", code)
	}
	n := *a
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	if code, text := n.ask("/readyz"); code != 503 || !strings.Contains(text, "store: ok") || !strings.Contains(text, "draining: the node goes down") {
		t.Errorf("%d %s", code, text)
	}
}

// lostStore is a store whose files were removed.
type lostStore struct{ store.Store }

func (lostStore) Check() error {
	return fault.New("look", fault.IO, "the log was removed while it was open")
}

// TestReadyWithoutStore: a node whose store's files were removed says so, though nothing has changed since.
func TestReadyWithoutStore(t *testing.T) {
	a := newHost(t, "a")
	memory, err := boltstore.Open(boltstore.Config{Path: filepath.Join(a.dir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	a.o.Store = lostStore{memory}
	a.start(a.config(""))
	eventually(t, func() bool {
		code, text := a.ask("/readyz")
		return code == 503 && strings.Contains(text, "store: its files were removed")
	}, func() string { _, text := a.ask("/readyz"); return text })
	if err := a.end(); err != nil {
		t.Error(err)
	}
}

// TestPushed: both ends of a request are pushed once they have ended, though the endpoint
// was dead when they did and the node was restarted meanwhile.
func TestPushed(t *testing.T) {
	var mu sync.Mutex
	var alive bool
	var got []string
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if !alive {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		got = append(got, string(b))
	}))
	defer hub.Close()
	a := newHost(t, "a")
	cfg := a.config("[push]\nurl = \"" + hub.URL + "\"\nevery = \"100ms\"\n")
	a.start(cfg)
	a.write("x", "own")
	ref := a.submit("a", "push", "x", "x2")
	a.done(ref)
	eventually(t, func() bool {
		return a.metric(`pannier_push_backlog`) == 2 && a.metric(`pannier_push_records_total{status="failed"}`) > 0
	}, func() string { return "nothing waits" })
	a.end()
	mu.Lock()
	alive = true
	mu.Unlock()
	a.start(cfg)
	eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		all := strings.Join(got, "")
		return strings.Contains(all, `"role":"requester"`) && strings.Contains(all, `"role":"requested"`) && strings.Contains(all, ref.Key.ID.String())
	}, func() string { return strings.Join(got, "\n") })
}
