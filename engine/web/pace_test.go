package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// TestPace: who asks for more pages than a person can read gets a short refusal in place of
// most of them, and the others get theirs; streams are opened no faster, and orders have limits of their own.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		p := &Page{cfg: Config{Caller: func(r *http.Request) (Caller, bool) {
			return Caller{Name: r.Header.Get("name"), Read: true, Operate: true}, true
		}}, quit: t.Context()}
		h := p.visited(Caller{Read: true}, func(_ *Page, v *visit) error { made++; return nil })
		ask := func(method, path, name string) int {
			r := httptest.NewRequest(method, path, nil)
			r.Header.Set("name", name)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" {
				t.Error("nothing says when to try again")
			}
			return w.Code
		}
		for range 10 * pagesAtOnce {
			ask("GET", "/transfers", "flood")
		}
		if made != pagesAtOnce {
			t.Errorf("%d pages were made for a flood, want %d", made, pagesAtOnce)
		}
		for _, c := range []struct {
			method, path, name string
			code               int
		}{
			{"GET", "/transfers", "flood", http.StatusTooManyRequests}, {"HEAD", "/transfers", "flood", http.StatusTooManyRequests}, {"GET", "/transfers", "other", http.StatusOK},
			{"GET", "/live/transfers", "flood", http.StatusOK}, {"POST", "/words", "flood", http.StatusOK},
		} {
			if got := ask(c.method, c.path, c.name); got != c.code {
				t.Errorf("%s %s by %s: %d", c.method, c.path, c.name, got)
			}
		}
		made = 0
		for range 10 * pagesAtOnce {
			ask("GET", "/live/transfers", "flood")
		}
		if made != pagesAtOnce-1 {
			t.Errorf("%d streams were opened for a flood, want %d", made, pagesAtOnce-1)
		}
		made = 0
		time.Sleep(time.Second)
		for range pagesAtOnce {
			ask("GET", "/", "flood")
		}
		if made != pagesPerSecond {
			t.Errorf("%d pages a second later, want %d", made, pagesPerSecond)
		}
		for i := range 2 * mostPaced {
			ask("GET", "/", fmt.Sprint("caller ", i))
		}
		if n := len(p.pages.of); n > mostPaced {
			t.Errorf("%d callers are remembered", n)
		}
	})
}
