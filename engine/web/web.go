// Package web is the page where people see and run a node: what is on its way,
// why it waits, and the words of its operators. It is made of html/template and
// htmx, served from the binary, and knows the node by the admin service alone.
//
//	New -> Page, an http.Handler -> Close
//
// Who calls is not its business: Config.Caller says it. It answers for itself
// otherwise: each response has a policy that allows nothing inline and no framing, what
// changes something is refused when another site's page asks, and names of files are
// text wherever they appear. It never serves a file of the node's.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Caller is who calls, and what they may. The fields are the scopes of a token.
type Caller struct {
	Name                              string // for the log and for people
	Read, Submit, Operate, Administer bool
	LoggedIn                          bool // by Config.Login, and so can log out
}

// Config is what a page is made of.
type Config struct {
	Admin adminpb.AdminClient // the node; required
	// Caller says who calls; false: nobody it knows. Required. It is asked again for
	// streams that go on, so it has to be quick.
	Caller func(*http.Request) (Caller, bool)
	// Login is the path where a browser can become somebody; empty: there is none.
	Login string
	// Logout is the path that a browser posts to for being nobody again; empty: there is none. It is
	// offered to callers who have logged in.
	Logout string
	// Self is the context of calls that nobody has asked for, for the graph. Default: the
	// background.
	Self context.Context
	Log  *slog.Logger // what operators have ordered. Default: none
}

// Page is the handler of Routes. Anything else is a page that says that there is none.
type Page struct {
	cfg      Config
	seen     map[bool]*seen // by those who may operate the node, and by others
	graph    *graph
	handler  http.Handler
	most     int // requests that one word may be said on
	viewers  viewers
	pages    paces           // that are asked for
	openings paces           // of streams
	quit     context.Context // ends with Close
	close    context.CancelFunc
	ended    chan struct{} // the graph's goroutine has ended
}

// How many streams there may be at a time, and of those, of one caller: who may only read keeps
// nobody out.
const (
	mostViewers = 200
	mostOfOne   = 32
)

// patience is how long the node may take to tell its requests.
const patience = 30 * time.Second

// New makes a page. It has one goroutine of its own, for the graph, until Close.
func New(cfg Config) (*Page, error) {
	if cfg.Admin == nil || cfg.Caller == nil {
		return nil, fault.New("make web page", fault.Invalid, "set Admin and Caller")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Page{cfg: cfg, seen: map[bool]*seen{}, graph: newGraph(cfg.Admin), most: mostWords, ended: make(chan struct{})}
	for _, operate := range []bool{true, false} {
		p.seen[operate] = &seen{board: &board{admin: cfg.Admin}}
	}
	if cfg.Self == nil {
		cfg.Self = context.Background()
	}
	p.quit, p.close = context.WithCancel(cfg.Self)
	p.handler = p.routes()
	go func() {
		defer close(p.ended)
		p.graph.run(p.quit)
	}()
	return p, nil
}

// Close ends all streams. An http.Server that shuts down waits for them, so close the
// page first.
func (p *Page) Close() {
	p.close()
	<-p.ended
}

func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// Route is a pattern of http.ServeMux that a page serves, and what it takes of a caller.
type Route struct {
	Pattern string
	Needs   Caller // nothing: it is not secret
	serve   func(*Page, *visit) error
}

// Routes are all, for a server that has more than a page.
func Routes() []Route {
	see, say := Caller{Read: true}, Caller{Operate: true}
	return []Route{
		{"GET /assets/{name}", Caller{}, nil}, // a login page has them, too
		{"GET /{$}", see, (*Page).home},
		{"GET /transfers", see, (*Page).transfers},
		{"GET /transfers/{id}", see, (*Page).transfer},
		{"GET /errors", see, (*Page).errors},
		{"GET /partners", see, (*Page).partners},
		{"GET /folders", see, (*Page).listFolders},
		{"GET /folders/{name}", see, (*Page).folder},
		{"GET /times", see, (*Page).times},
		{"GET /live/transfers", see, (*Page).liveTransfers},
		{"GET /live/transfers/{id}", see, (*Page).liveTransfer},
		{"GET /live/partners", see, (*Page).livePartners},
		{"GET /live/errors", see, (*Page).liveErrors},
		{"GET /live/times", see, (*Page).liveTimes},
		{"GET /live/folders", see, (*Page).liveFolders},
		{"GET /live/folders/{name}", see, (*Page).liveFolder},
		{"POST /words", say, (*Page).words},
		{"POST /partners/{name}/test", say, (*Page).testPartner},
		{"POST /folders/{name}/scan", say, (*Page).scanFolder},
	}
}

func (p *Page) routes() http.Handler {
	mux := http.NewServeMux()
	for _, r := range Routes() {
		if r.serve == nil {
			mux.HandleFunc(r.Pattern, serveAsset)
		} else {
			mux.Handle(r.Pattern, p.visited(r.Needs, r.serve))
		}
	}
	mux.Handle("GET /", p.visited(Caller{Read: true}, (*Page).nothing))
	return secured(mux)
}

func (p *Page) home(v *visit) error {
	http.Redirect(v.w, v.r, "/transfers", http.StatusSeeOther)
	return nil
}

func (p *Page) nothing(v *visit) error {
	return fault.New("find page", fault.NotFound, "there is no page %s", v.r.URL.Path)
}

// secured says with each response what a browser may do with it, and refuses what
// another site's page asks for.
func secured(next http.Handler) http.Handler {
	same := http.NewCrossOriginProtection()
	same.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "a page of another site has asked for this: refused", http.StatusForbidden)
	}))
	inner := same.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", Policy)
		h.Set("X-Frame-Options", "DENY")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		inner.ServeHTTP(w, r)
	})
}

// Policy is the Content-Security-Policy of each response.
const Policy = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
