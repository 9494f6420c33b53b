package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// visit is one call of somebody who may make it.
type visit struct {
	p      *Page
	w      http.ResponseWriter
	r      *http.Request
	caller Caller
}

// ctx ends with the call, or with the page.
func (v *visit) ctx() context.Context { return v.r.Context() }

// part reports whether htmx has asked: it wants a part of the page.
func (v *visit) part() bool { return v.r.Header.Get("HX-Request") == "true" }

// isAt reports whether the page that htmx asks from has that address.
func (v *visit) isAt(path string) bool {
	u, err := url.Parse(v.r.Header.Get("HX-Current-URL"))
	return err == nil && u.RequestURI() == path
}

// visited serves those who have the scopes that need has.
func (p *Page) visited(need Caller, serve func(*Page, *visit) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{p: p, w: w, r: r}
		caller, known := p.cfg.Caller(r)
		if !known {
			p.turnAway(v)
			return
		}
		v.caller = caller
		if need.Read && !caller.Read || need.Operate && !caller.Operate {
			v.failed(fault.New("look at node", fault.Permission, "%s may not do this: it takes the scope %s", caller.Name, map[bool]string{true: "operate", false: "read"}[need.Operate]))
			return
		}
		pace := &p.pages
		if strings.HasPrefix(r.URL.Path, "/live/") {
			pace = &p.openings
		}
		if r.Method != http.MethodPost && !pace.lets(caller.Name) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, fmt.Sprintf("%s asks for more than %d pages a second: wait a second", caller.Name, pagesPerSecond), http.StatusTooManyRequests)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(p.quit, cancel)()
		v.r = r.WithContext(ctx)
		if err := serve(p, v); err != nil {
			v.failed(admin.FromStatus(err))
		}
	})
}

// turnAway leads somebody unknown to where they can log in, or tells them.
func (p *Page) turnAway(v *visit) {
	login := ""
	if p.cfg.Login != "" {
		login = p.cfg.Login + "?next=" + url.QueryEscape(v.r.URL.RequestURI())
	}
	switch {
	case login != "" && v.part():
		v.w.Header().Set("HX-Redirect", p.cfg.Login)
		v.w.WriteHeader(http.StatusUnauthorized)
	case login != "" && v.r.Method == http.MethodGet && v.r.Header.Get("Sec-Fetch-Dest") != "empty":
		http.Redirect(v.w, v.r, login, http.StatusSeeOther)
	default:
		http.Error(v.w, "log in first", http.StatusUnauthorized)
	}
}

// failed answers with an error in words.
func (v *visit) failed(err error) {
	if v.ctx().Err() != nil {
		return // nobody listens
	}
	code := http.StatusInternalServerError
	switch fault.KindOf(err) {
	case fault.NotFound:
		code = http.StatusNotFound
	case fault.Invalid, fault.TooLong:
		code = http.StatusBadRequest
	case fault.Permission, fault.Unauthenticated:
		code = http.StatusForbidden
	case fault.Unsupported:
		code = http.StatusNotImplemented
	case fault.Lost, fault.Draining, fault.Overloaded, fault.Deadline:
		code = http.StatusServiceUnavailable
	}
	if v.part() {
		v.show(code, "notice", notice{Bad: true, Text: fault.Plain(err)})
		return
	}
	title := map[int]string{http.StatusNotFound: "Not here", http.StatusForbidden: "Not allowed"}[code]
	if title == "" {
		title = "That did not work"
	}
	v.page(code, "failed", title, "", fault.Plain(err))
}

// absent says whether a call has failed because the node has nothing of that kind.
func absent(err error) bool {
	return err != nil && fault.KindOf(admin.FromStatus(err)) == fault.Unsupported
}

// notice is what has become of an operator's word.
type notice struct {
	Bad  bool
	Text string
	More []string
}

// layout is what each page has around it.
type layout struct {
	Title  string
	At     string // of the pages in the navigation: which one this is
	Pages  []entry
	Caller Caller
	Logout string        // Config.Logout, for who can
	Node   *adminpb.Node // nil: it does not answer
	Main   any
}

// entry is a page in the navigation.
type entry struct{ At, Path, Name string }

var entries = []entry{{"transfers", "/transfers", "Transfers"}, {"errors", "/errors", "Errors"}, {"partners", "/partners", "Partners"}, {"folders", "/folders", "Folders"}, {"times", "/times", "Times"}}

// page answers with a whole page, whose middle is the template name.
func (v *visit) page(code int, name, title, at string, data any) {
	l := layout{Title: title, At: at, Pages: entries, Caller: v.caller, Main: data}
	if v.caller.LoggedIn {
		l.Logout = v.p.cfg.Logout
	}
	l.Node, _ = v.p.cfg.Admin.NodeInfo(v.ctx(), &adminpb.NodeInfoRequest{})
	v.show(code, "page-"+name, l)
}

// show answers with a template.
func (v *visit) show(code int, name string, data any) {
	var b bytes.Buffer
	if err := templates().ExecuteTemplate(&b, name, data); err != nil {
		v.p.cfg.Log.Error("web page", "template", name, "error", err)
		http.Error(v.w, "this page could not be made; the log says why", http.StatusInternalServerError)
		return
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	writeCompressed(v.w, v.r, code, b.Bytes())
}
