package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestBroken: a page whose stream breaks off says so, and shows what there is when it is back, also if that is what it
// showed at first.
func TestBroken(t *testing.T) {
	s := newSite(t)
	var broken atomic.Bool
	var n atomic.Int32 // of the transfer
	refused := make(chan struct{}, 1)
	orders := map[string]func(*http.Request){
		"/run": func(*http.Request) { s.engine.Set(request(int(n.Add(1)), runs(1000))) },
		"/end": func(*http.Request) { s.engine.Set(request(int(n.Load()), ends)) },
		"/break": func(r *http.Request) {
			select {
			case <-refused: // of the time before
			default:
			}
			broken.Store(r.URL.RawQuery == "")
			go s.server.CloseClientConnections()
		},
		"/mend": func(*http.Request) {
			if broken.Load() {
				<-refused // it has asked in vain
			}
			broken.Store(false)
		},
	}
	s.server.Close()
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch order := orders[r.URL.Path]; {
		case order != nil:
			order(r)
		case broken.Load() && strings.HasPrefix(r.URL.Path, "/live/"):
			http.Error(w, "broken", http.StatusServiceUnavailable)
			select {
			case refused <- struct{}{}:
			default:
			}
		default:
			s.page.ServeHTTP(w, r)
		}
	}))
	s.server.Start()
	s.browse("broken")
}
