package push

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub is an endpoint, and the store that is behind the pusher.
type hub struct {
	*httptest.Server
	t      *testing.T
	began  time.Time // each record has finished a second after the one before
	status atomic.Int32
	unfit  atomic.Int32         // what it answers when there is a record among others that it refuses; 0: it takes them
	refuse func(id string) bool // odd, but where a test says otherwise
	cfg    Config

	mu      sync.Mutex
	got     []Record
	tokens  []string
	records []lifecycle.Record // of the store
}

func newHub(t *testing.T) *hub {
	h := &hub{t: t, refuse: odd, began: time.Now().Add(time.Minute)}
	h.status.Store(200)
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Server.Close)
	h.cfg = Config{Node: "hosta", URL: h.URL, Batch: 7, Every: time.Millisecond, Cursor: filepath.Join(t.TempDir(), "push.json"), Log: slog.New(slog.DiscardHandler), Find: h.find}
	return h
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	var m message
	if err := json.Unmarshal(b, &m); err != nil || m.Node != "hosta" || len(m.Records) > h.cfg.Batch {
		h.t.Errorf("%v: %s", err, b)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokens = append(h.tokens, r.Header.Get("Authorization"))
	if code := int(h.status.Load()); code != 200 {
		w.WriteHeader(code)
		return
	}
	for _, r := range m.Records {
		if code := int(h.unfit.Load()); code != 0 && h.refuse(r.ID) {
			if len(m.Records) == 1 && r.ID[3] == '3' {
				code = 413 // it has a reason of its own
			}
			w.WriteHeader(code)
			return
		}
	}
	h.got = append(h.got, m.Records...)
}

// odd reports whether a record has an odd number.
func odd(id string) bool { return (id[3]-'0')%2 == 1 }

func (h *hub) find(_ context.Context, q store.Query) iter.Seq2[lifecycle.Record, error] {
	return func(yield func(lifecycle.Record, error) bool) {
		h.mu.Lock()
		all := slices.Clone(h.records)
		h.mu.Unlock()
		for _, r := range slices.Backward(all) {
			if q.Matches(&r) && !yield(r, nil) {
				return
			}
		}
	}
}

// finish has n requests end, and tells p, if there is one.
func (h *hub) finish(p *Pusher, n int) {
	for range n {
		h.mu.Lock()
		r := lifecycle.Record{Key: lifecycle.Key{Requester: "hosta"}, Role: lifecycle.Requester, Side: lifecycle.Sender, State: lifecycle.Done, Size: 1 << 60, Changed: h.began.Add(time.Duration(len(h.records)) * time.Second)}
		r.Key.ID[0], r.Key.ID[1] = byte(len(h.records)>>8), byte(len(h.records))
		r.Spec.Follow = lifecycle.ID{0xf0, r.Key.ID[0], r.Key.ID[1]}
		h.records = append(h.records, r)
		h.mu.Unlock()
		if p != nil {
			p.Committed(&r)
		}
	}
}

func (h *hub) open() *Pusher {
	h.t.Helper()
	p, err := Open(h.cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { p.Close() })
	return p
}

// all waits until every record has come, and returns how many came twice.
func (h *hub) all() (twice int) {
	h.t.Helper()
	for range 3000 {
		h.mu.Lock()
		ids := map[string]int{}
		for _, r := range h.got {
			ids[r.ID]++
		}
		total, want := len(h.got), len(h.records)
		h.mu.Unlock()
		if len(ids) == want {
			return total - want
		}
		time.Sleep(10 * time.Millisecond)
	}
	h.t.Fatalf("%d records of %d have come", len(h.got), len(h.records))
	return 0
}

func (h *hub) rising() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	last := uint64(0)
	for _, r := range h.got {
		n, err := strconv.ParseUint(r.Seq, 10, 64)
		if err != nil || n <= last {
			h.t.Fatalf("seq %q after %d", r.Seq, last)
		}
		last = n
	}
}

// TestPush: what finishes comes once, in order, in batches; numbers are texts.
func TestPush(t *testing.T) {
	h := newHub(t)
	p := h.open()
	h.finish(p, 100)
	if twice := h.all(); twice > 0 {
		t.Errorf("%d came twice", twice)
	}
	h.rising()
	if r := h.got[0]; r.Size != "1152921504606846976" || r.State != "DONE" {
		t.Errorf("%+v", r)
	}
	if p.Backlog() > 7 {
		t.Errorf("%d wait", p.Backlog())
	}
}

// TestToldLate: what the pusher found in the store before it was told of it comes once, whether
// it waits still or was taken.
func TestToldLate(t *testing.T) {
	h := newHub(t)
	h.status.Store(503)
	h.cfg.Batch = 2
	h.finish(nil, 5) // within seconds, as what is told late is
	p := h.open()
	for p.Backlog() < 5 {
		time.Sleep(time.Millisecond)
	}
	tell := func() {
		for i := range h.records {
			p.Committed(&h.records[i])
		}
	}
	tell()
	h.status.Store(200)
	h.all()
	tell()
	h.finish(p, 1)
	if twice := h.all(); twice > 0 {
		t.Errorf("%d came twice", twice)
	}
	h.rising()
}

// TestOverflow: more than can wait in memory, while the endpoint is dead, is found in the
// store; who tells the pusher never waits.
func TestOverflow(t *testing.T) {
	h := newHub(t)
	h.status.Store(503)
	h.cfg.Batch = 1000
	p := h.open()
	h.finish(p, 3*mostWaiting)
	h.status.Store(200)
	for range 100 { // meanwhile more finishes
		h.finish(p, 50)
		time.Sleep(time.Millisecond)
	}
	h.all()
	h.rising()
}

// TestRestart: what a dead process has not brought, the next one does; seq rises on.
func TestRestart(t *testing.T) {
	h := newHub(t)
	p := h.open()
	h.finish(p, 20)
	h.all()
	h.status.Store(500)
	h.finish(p, 20)
	p.Close()
	h.finish(nil, 20) // told to nobody
	h.status.Store(200)
	p = h.open()
	h.finish(p, 5)
	h.all()
	h.rising()
}

// TestNoHistory: a node that begins to push does not push what is history.
func TestNoHistory(t *testing.T) {
	h := newHub(t)
	h.finish(nil, 1)
	h.records[0].Changed = time.Now().Add(-time.Hour)
	h.finish(h.open(), 1)
	h.mu.Lock()
	h.records = h.records[1:]
	h.mu.Unlock()
	h.all()
}

// TestToken: it is read for each request, and not used if others may read it.
func TestToken(t *testing.T) {
	h := newHub(t)
	h.cfg.Secret = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(h.cfg.Secret, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := h.open()
	h.finish(p, 1)
	h.all()
	if err := os.WriteFile(h.cfg.Secret, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.finish(p, 1)
	h.all()
	if got := strings.Join(h.tokens, ","); got != "Bearer first,Bearer second" {
		t.Errorf("%s", got)
	}
	if err := os.Chmod(h.cfg.Secret, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadToken(h.cfg.Secret); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("%v", err)
	}
}

// TestRedirect: a token goes to nobody else.
func TestRedirect(t *testing.T) {
	h := newHub(t)
	asked := make(chan struct{}, 10)
	from := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, h.URL, http.StatusTemporaryRedirect)
		select {
		case asked <- struct{}{}:
		default:
		}
	}))
	defer from.Close()
	h.cfg.URL = from.URL
	failed := make(chan error, 10)
	h.cfg.Pushed = func(_ int, err error) { failed <- err }
	p := h.open()
	h.finish(p, 1)
	<-asked
	if err := <-failed; err == nil {
		t.Error("a redirect is a success")
	}
	p.Close()
	if len(h.tokens) > 0 {
		t.Error("it was followed")
	}
}

// TestLookIsCheap: to look takes work for each record that waits or is found, not for each pair of them: who tells of
// what has finished, for whom a transfer waits, would wait for that.
func TestLookIsCheap(t *testing.T) {
	h := newHub(t)
	h.finish(nil, mostWaiting)
	p := &Pusher{cfg: h.cfg, ctx: t.Context(), recent: map[string]time.Time{}, waiting: slices.Clone(h.records)}
	some := testing.AllocsPerRun(1, func() {
		if found, _, err := p.look(); err != nil || len(found) > 0 {
			t.Fatal(len(found), err)
		}
	})
	if most := float64(50 * mostWaiting); some > most {
		t.Errorf("%v allocations, at most %v", some, most)
	}
}
