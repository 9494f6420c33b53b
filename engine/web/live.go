package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/spec/fault"
)

// Streams of what a page shows, as server-sent events: the name of an event is that of
// the place it goes to, its data what is there from then on. Nothing waits for a
// viewer: each looks for itself, once a second, and is told what differs from what it
// has been told. One that is slow looks more rarely, one that takes nothing is left.

const (
	every    = time.Second
	alive    = 15 * time.Second // a comment is sent after that much silence
	tolerate = 10 * time.Second // so long may a viewer take to take what it is sent
	verify   = 10               // looks between two questions who it is
)

// viewers counts those who follow a page, by caller.
type viewers struct {
	mu  sync.Mutex
	all int
	of  map[string]int
}

// enter takes a place, which leave gives back.
func (v *viewers) enter(caller string) (leave func(), err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.all >= mostViewers || v.of[caller] >= mostOfOne {
		return nil, fault.New("follow page", fault.Overloaded, "%d pages are open, %d of them of %s, as many as may: close one", v.all, v.of[caller], caller)
	}
	if v.of == nil {
		v.of = map[string]int{}
	}
	v.all++
	v.of[caller]++
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.all--
		if v.of[caller]--; v.of[caller] == 0 {
			delete(v.of, caller)
		}
	}, nil
}

// stream is a viewer's.
type stream struct {
	*visit
	control *http.ResponseController
	out     bytes.Buffer
	quiet   time.Time         // since when nothing was sent
	sent    map[string]string // name of an event: what was sent last
	silent  bool              // what is told now is known to the viewer
}

// stream serves one viewer until it goes: look writes with tell what it has found.
func (v *visit) stream(look func(s *stream) error) error {
	leave, err := v.p.viewers.enter(v.caller.Name)
	if err != nil {
		return err
	}
	defer leave()
	s := &stream{visit: v, control: http.NewResponseController(v.w), sent: map[string]string{}, quiet: time.Now()}
	h := v.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // a proxy would hold it back
	v.w.WriteHeader(http.StatusOK)
	s.out.WriteString("id: 1\n: \n\n") // the browser sees that it is open, and says the id when it comes back
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 1; ; n++ {
		if err := look(s); err != nil {
			return nil // the browser asks again
		}
		if err := s.flush(); err != nil {
			return nil // it has gone, or takes nothing
		}
		select {
		case <-tick.C:
		case <-v.ctx().Done():
			return nil
		}
		if n%verify == 0 {
			if c, known := v.p.cfg.Caller(v.r); !known || !c.Read {
				return nil
			}
		}
	}
}

// tell sends a template to a place, if it is not what is there.
func (s *stream) tell(event, name string, data any) error {
	var b strings.Builder
	if err := templates().ExecuteTemplate(&b, name, data); err != nil {
		s.p.cfg.Log.Error("web page", "template", name, "error", err)
		return err
	}
	if was, told := s.sent[event]; told && was == b.String() {
		return nil
	}
	if s.sent[event] = b.String(); !s.silent {
		s.say(event, b.String())
	}
	return nil
}

// have is the print of what the viewer has got with its page; empty: it has been told more since,
// in a stream that has broken off.
func (v *visit) have() string {
	if v.r.Header.Get("Last-Event-ID") != "" {
		return ""
	}
	return v.r.URL.Query().Get("have")
}

// say writes an event. Lines end with whatever a browser takes for an end, so that no
// data can begin a field of its own.
func (s *stream) say(event, data string) {
	s.out.WriteString("event: " + event + "\n")
	data = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(data)
	for line := range strings.SplitSeq(data, "\n") {
		s.out.WriteString("data: " + line + "\n")
	}
	s.out.WriteString("\n")
}

// flush hands over what was written.
func (s *stream) flush() error {
	now := time.Now()
	if s.out.Len() == 0 {
		if now.Sub(s.quiet) < alive {
			return nil
		}
		s.out.WriteString(": \n\n")
	}
	s.quiet = now
	return httpd.Within(s.w, tolerate, func() error {
		if _, err := s.out.WriteTo(s.w); err != nil {
			return err
		}
		s.out.Reset()
		return s.control.Flush()
	})
}

// liveTransfers follows a list.
func (p *Page) liveTransfers(v *visit) error {
	f, have := readFilter(v.r.URL.Query()), v.have()
	var shown []row
	return v.stream(func(s *stream) error {
		t, err := p.find(v, f)
		if err != nil {
			return err
		}
		if keys, _, _ := strings.Cut(have, "."); have == t.Print {
			shown = t.Rows
			s.silent = true
		} else if strings.HasPrefix(t.Print, keys+".") {
			for _, r := range t.Rows { // the same rows, but not as they are now
				shown = append(shown, row{Key: r.Key})
			}
		}
		have = ""
		defer func() { s.silent = false }()
		if err := s.rows(t, shown); err != nil {
			return err
		}
		shown = t.Rows
		if err := s.tell("tabs", "tabs", t); err != nil {
			return err
		}
		if err := s.tell("pager", "pager", t); err != nil {
			return err
		}
		return s.tell("graph", "graph", p.graph.picture())
	})
}

// rows tells how rows differ: all of them when others are there now, else the cells
// that have changed.
func (s *stream) rows(t table, shown []row) error {
	if !slices.EqualFunc(t.Rows, shown, func(a, b row) bool { return a.Key == b.Key }) || shown == nil {
		return s.whole(t)
	}
	for i, r := range t.Rows {
		if r == shown[i] {
			continue
		}
		for _, c := range []struct {
			name    string
			changed bool
		}{{"state", r.state != shown[i].state}, {"progress", r.progress != shown[i].progress}, {"why", r.why != shown[i].why}} {
			if c.changed {
				if err := s.tell(r.Key+"-"+c.name, "cell-"+c.name, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *stream) whole(t table) error {
	for event := range s.sent { // cells that are gone
		if strings.HasPrefix(event, "r") && event != "rows" {
			delete(s.sent, event)
		}
	}
	return s.tell("rows", "rows", t)
}

// printOf is short: one part for which rows there are, and one for how they look.
func printOf(rows []row) string {
	keys, looks := sha256.New(), sha256.New()
	for i := range rows {
		fmt.Fprintln(keys, rows[i].Key)
		fmt.Fprintf(looks, "%+v\n", rows[i])
	}
	return hex.EncodeToString(keys.Sum(nil)[:6]) + "." + hex.EncodeToString(looks.Sum(nil)[:6])
}
