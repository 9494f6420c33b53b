package push

import (
	"bytes"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestUnfit: records that the endpoint never takes are named and passed over, and what comes behind
// them comes. Nothing is passed over while it takes nothing.
func TestUnfit(t *testing.T) {
	for _, code := range []int32{400, 413, 422} {
		h := newHub(t)
		var log bytes.Buffer
		h.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		var failed atomic.Int32
		h.cfg.Pushed = func(n int, err error) {
			if err != nil {
				failed.Add(int32(n))
			}
		}
		h.status.Store(code)
		h.finish(nil, 10)
		p := h.open()
		for range 30_000 { // as from an endpoint that is set up wrongly
			if time.Sleep(time.Millisecond); failed.Load() > 0 {
				break
			}
		}
		h.unfit.Store(code)
		h.status.Store(200)
		for range 3000 {
			if h.mu.Lock(); len(h.got) >= 5 && p.Backlog() == 0 {
				h.mu.Unlock()
				break
			}
			h.mu.Unlock()
			time.Sleep(10 * time.Millisecond)
		}
		p.Close()
		h.rising()
		for _, r := range h.got {
			if odd(r.ID) {
				t.Errorf("%d: %s came", code, r.ID)
			}
		}
		if len(h.got) != 5 || p.Backlog() != 0 {
			t.Errorf("%d: %d records have come, %d wait", code, len(h.got), p.Backlog())
		}
		for _, id := range []string{"0001", "0003", "0005", "0007", "0009"} {
			why := code
			if id == "0003" {
				why = 413
			}
			_, line, _ := strings.Cut(log.String(), "id="+id+strings.Repeat("0", 28)+" ")
			line, rest, _ := strings.Cut(line, "\n")
			if !strings.HasPrefix(line, "follow=f0"+id+strings.Repeat("0", 26)+" ") || !strings.Contains(line, fmt.Sprintf("answers %d ", why)) || strings.Contains(rest, "id="+id) {
				t.Errorf("%d: %s is to be named once, with %d:\n%s", code, id, why, log.String())
			}
		}
	}
}

// TestTakesNothing: an endpoint that takes nothing is not asked for each record.
func TestTakesNothing(t *testing.T) {
	h := newHub(t)
	h.cfg.Batch, h.cfg.Every = 500, time.Hour
	failed := make(chan error, 1000)
	h.cfg.Pushed = func(_ int, err error) { failed <- err }
	h.status.Store(400)
	h.finish(nil, 500)
	p := h.open()
	defer p.Close()
	if err := <-failed; err == nil {
		t.Fatal("it was taken")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.tokens); n > 64 {
		t.Errorf("it was asked %d times for a batch", n)
	}
}

// TestNotUnfit: what is not an answer about a record passes over none.
func TestNotUnfit(t *testing.T) {
	h := newHub(t)
	h.unfit.Store(404)
	h.finish(nil, 10)
	failed := make(chan error, 100)
	h.cfg.Pushed = func(_ int, err error) { failed <- err }
	h.open()
	if err := <-failed; err == nil {
		t.Error("a batch with a record that is not taken was taken")
	}
	h.unfit.Store(0)
	h.all()
}

// TestUnfitFirst: many in a row that the endpoint never takes hold up nothing for ever, whatever
// goes in one request.
func TestUnfitFirst(t *testing.T) {
	for _, batch := range []int{1, 100} {
		t.Run(strconv.Itoa(batch), func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			h.cfg.Batch = batch
			h.refuse = func(id string) bool { return id[:4] < "0014" }
			h.unfit.Store(400)
			h.finish(nil, 25)
			p := h.open()
			defer p.Close()
			come := func() int {
				h.mu.Lock()
				defer h.mu.Unlock()
				return len(h.got)
			}
			for end := time.Now().Add(time.Minute); p.Backlog() > 0 || come() == 0; time.Sleep(10 * time.Millisecond) { // at first it knows of none
				if time.Now().After(end) {
					t.Fatalf("%d wait", p.Backlog())
				}
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if len(h.got) != 5 {
				t.Errorf("%d have come", len(h.got))
			}
		})
	}
}
