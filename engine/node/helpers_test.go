package node_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/flow/flowtest/freeport"
)

// Helpers are who is told of transfers: webhooks, mail servers, collectors of traces, takers of
// finished records. None of them is needed.

// helper is a server that fails in some way, until it is mended. What it takes then are records.
type helper struct {
	t       *testing.T
	address string
	mode    atomic.Value // string

	mu    sync.Mutex
	conns map[net.Conn]bool
	calls int
	taken []string // id and role of each record that was taken
	all   sync.WaitGroup
	l     net.Listener
}

// Ways to fail.
const (
	hangs   = "hangs"   // takes connections, and what is sent, and says nothing
	refuses = "refuses" // nobody listens
	fails   = "fails"   // says so
	endless = "endless" // says that it is fine, and does not stop talking
	garbage = "garbage"
	mended  = "mended"
)

func newHelper(t *testing.T, mode string) *helper {
	h := &helper{t: t, address: freeport.For(t, "127.0.0.1"), conns: map[net.Conn]bool{}}
	t.Cleanup(h.close)
	h.become(mode)
	return h
}

// become changes the way; who is connected is cut off.
func (h *helper) become(mode string) {
	h.t.Helper()
	h.mode.Store(mode)
	if mode != refuses && h.l == nil {
		var err error
		if h.l, err = net.Listen("tcp", h.address); err != nil {
			h.t.Fatal(err)
		}
		h.all.Go(h.accept)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		c.Close()
	}
}

func (h *helper) close() {
	if h.l != nil {
		h.l.Close()
	}
	h.become(refuses)
	h.all.Wait()
}

func (h *helper) accept() {
	for {
		c, err := h.l.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns[c] = true
		h.calls++
		h.mu.Unlock()
		h.all.Go(func() {
			defer func() {
				c.Close()
				h.mu.Lock()
				delete(h.conns, c)
				h.mu.Unlock()
			}()
			h.serve(c)
		})
	}
}

// serve speaks HTTP to who speaks first, as is seen by its first line; a client of SMTP waits
// for a greeting, and gets one that is as good as the mode.
func (h *helper) serve(c net.Conn) {
	mode := h.mode.Load().(string)
	switch mode {
	case hangs:
		_, _ = io.Copy(io.Discard, c)
		return
	case garbage:
		_, _ = io.WriteString(c, "\x00\x01\xfe???\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
		return
	case refuses:
		return
	}
	in := bufio.NewReader(c)
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // nothing is said by then: SMTP
	if _, err := in.Peek(1); err != nil {
		greeting := map[string]string{fails: "554 no service\r\n", mended: "554 no mail here\r\n"}[mode]
		_, err := io.WriteString(c, greeting)
		for mode == endless && err == nil {
			_, err = io.WriteString(c, "220-and so on\r\n")
		}
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		switch mode {
		case fails:
			_, err = io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
		case mended, endless:
			h.take(body)
			_, err = io.WriteString(c, map[string]string{mended: "HTTP/1.1 204 No Content\r\n\r\n", endless: "HTTP/1.1 200 OK\r\n\r\n"}[mode])
			for mode == endless && err == nil {
				_, err = c.Write(make([]byte, 4<<10))
			}
		}
		if err != nil {
			return
		}
	}
}

// take notes finished records, if it is such that come.
func (h *helper) take(body []byte) {
	var m struct{ Records []struct{ ID, Role string } }
	if json.Unmarshal(body, &m) != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range m.Records {
		h.taken = append(h.taken, r.ID+" "+r.Role)
	}
}

// tried reports whether a node has tried to push, and knows how that went; if it can.
func (h *helper) tried(mode string, by *host) bool {
	h.mu.Lock()
	calls := h.calls
	h.mu.Unlock()
	return mode == hangs && calls >= 2 || by.metric(`pannier_push_records_total{status="failed"}`)+by.metric(`pannier_push_records_total{status="done"}`) > 0
}

// await waits until so many records were taken: who pushes may wait long after many failures.
func (h *helper) await(n int) {
	h.t.Helper()
	got := 0
	for began := time.Now(); time.Since(began) < 2*time.Minute; time.Sleep(10 * time.Millisecond) {
		h.mu.Lock()
		got = len(slices.Compact(slices.Sorted(slices.Values(h.taken))))
		h.mu.Unlock()
		if got >= n {
			return
		}
	}
	h.t.Errorf("of %d records %d were taken", n, got)
}

// TestHelpersHarmless: whatever all who are told of transfers do at the same time, the transfers
// arrive, those by rules that tell nobody too, and the nodes end; finished records are taken
// once it is possible, each once.
func TestHelpersHarmless(t *testing.T) {
	for _, mode := range []string{hangs, refuses, fails, endless, garbage} {
		t.Run(mode, func(t *testing.T) {
			hook, mail, collector, hub := newHelper(t, mode), newHelper(t, mode), newHelper(t, mode), newHelper(t, mode)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+collector.address)
			t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_on")
			t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16") // most of it is dropped
			t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
			told := fmt.Sprintf(`{ task = "http", url = "http://%s", timeout = "300ms" }, { task = "mail", url = "smtp://%s", from = "a@example.org", to = "b@example.org", timeout = "300ms" }`, hook.address, mail.address)
			telling := "[rule.sender]\npre = [ " + told + " ]\npost = [ " + told + " ]\n[rule.receiver]\npre = [ " + told + " ]\npost = [ " + told + " ]\n"
			push := fmt.Sprintf("[push]\nurl = \"http://%s\"\nevery = \"100ms\"\n", hub.address)
			a, b := newHost(t, "a"), newHost(t, "b")
			a.start(a.config(b.partner() + push + a.lists("send", telling)))
			b.start(b.config(a.partner() + push + b.lists("send", telling)))
			a.write("x", "content")
			want := map[string]bool{}
			for i := range 10 {
				rule := []string{"work", "push"}[i%2]
				target := fmt.Sprint("y", i)
				ref := a.submit("b", rule, "x", target)
				a.done(ref)
				if b.read(target) != "content" {
					t.Error("another file has arrived")
				}
				want[ref.Key.ID.String()+" requester"], want[ref.Key.ID.String()+" requested"] = true, true
				ref.Role = lifecycle.Requested
				b.done(ref)
			}
			if mode == endless { // of HTTP that is an answer, and only the mail server fails
				if n := strings.Count(a.log.String()+b.log.String(), "warning=true"); n < 20 {
					t.Errorf("%d warnings\n%s", n, b.log)
				}
			} else if n := strings.Count(a.log.String()+b.log.String(), "warning=true"); n != 40 {
				t.Errorf("%d warnings, want one for each message", n)
			}
			eventually(t, func() bool { return hub.tried(mode, a) && hub.tried(mode, b) }, func() string { return "records are not pushed" })
			hub.become(mended)
			hub.await(len(want))
			for _, h := range []*host{a, b} {
				if err := h.end(); err != nil {
					t.Error(err)
				}
			}
			hub.mu.Lock()
			defer hub.mu.Unlock()
			missing, again := maps.Clone(want), maps.Clone(want)
			for _, record := range hub.taken {
				switch {
				case missing[record]:
					delete(missing, record)
				case again[record]: // its answer was cut off, or came when the node ended
					delete(again, record)
				default:
					t.Errorf("%s: taken three times, or nobody's", record)
				}
			}
			if len(missing) > 0 {
				t.Errorf("not taken: %v", missing)
			}
		})
	}
}

// TestHelperHolds: while a webhook says nothing to one request, others of the same partner come
// through; and when it has failed one, its rule's requests do not wait for it in line.
func TestHelperHolds(t *testing.T) {
	silent := newHelper(t, hangs)
	a, b := newHost(t, "a"), newHost(t, "b")
	long := fmt.Sprintf("[rule.receiver]\npost = [ { task = \"http\", url = \"http://%s/long\", timeout = \"1h\", attempts = 100 } ]\n", silent.address)
	short := fmt.Sprintf("[[rule]]\nname = \"short\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%s/files\"\n[rule.receiver]\npost = [ { task = \"http\", url = \"http://%s/short\", timeout = \"200ms\" } ]\n", b.dir, silent.address)
	out := fmt.Sprintf("[[rule]]\nname = \"short\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%s/files\"\n", a.dir)
	a.start(a.config(b.partner() + a.lists("send", "") + out))
	b.start(b.config(a.partner() + b.lists("send", long) + short))
	a.write("x", "content")
	held := a.submit("b", "work", "x", "held")
	count := func() int {
		silent.mu.Lock()
		defer silent.mu.Unlock()
		return silent.calls
	}
	eventually(t, func() bool { return count() == 1 }, func() string { return "nobody is told" })
	for i := range 5 {
		a.done(a.submit("b", "push", "x", fmt.Sprint("p", i)))
	}
	a.done(a.submit("b", "short", "x", "s")) // and gives it up
	before, began := count(), time.Now()
	for i := range 20 {
		a.done(a.submit("b", "short", "x", fmt.Sprint("s", i)))
	}
	if tried, most := count()-before, 2+int(time.Since(began)/time.Second); tried > most {
		t.Errorf("%d messages were tried at a server that had failed one, in %v", tried, time.Since(began))
	}
	if !strings.Contains(b.log.String(), "has taken nothing since") {
		t.Error("no warning says why nobody was told")
	}
	if r, err := a.node.Engine().Get(t.Context(), held); err != nil || r.State.Final() {
		t.Errorf("%v, %v: it has ended while its message was tried", r.State, err)
	}
	silent.become(mended)
	a.done(held)
}
