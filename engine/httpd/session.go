package httpd

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/spec/fault"
)

const (
	cookieName  = "__Host-pannier_session" // by that name no other host and no page without TLS can set it
	sessionTime = 12 * time.Hour
)

// sessions are those of browsers. They are in memory only: a restart ends them.
type sessions struct {
	now func() time.Time

	mu  sync.Mutex
	all map[[sha256.Size]byte]session // by the digest of the cookie: looking one up tells no time
}

type session struct {
	token string // its id
	ends  time.Time
	ctx   context.Context // of what it has asked for; ends with it
	over  func()
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, all: map[[sha256.Size]byte]session{}}
}

// begin makes a session of a token and returns its cookie. At the limit one of the token that
// has most goes, that which ends first: no token ends the sessions of the others.
func (s *sessions) begin(token string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	count, oldest := map[string]int{}, map[string][sha256.Size]byte{} // by token
	most := ""
	for key, one := range s.all {
		if !s.now().Before(one.ends) {
			s.remove(key)
			continue
		}
		if first, ok := s.all[oldest[one.token]]; !ok || one.ends.Before(first.ends) {
			oldest[one.token] = key
		}
		if count[one.token]++; count[one.token] > count[most] {
			most = one.token
		}
	}
	if len(s.all) >= maxSessions {
		s.remove(oldest[most])
	}
	cookie := rand.Text() + rand.Text()
	ctx, over := context.WithCancel(context.Background())
	s.all[sha256.Sum256([]byte(cookie))] = session{token, s.now().Add(sessionTime), ctx, over}
	return cookie
}

// of is the session of a cookie, if there is one.
func (s *sessions) of(cookie string) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.all[sha256.Sum256([]byte(cookie))]
	return one, ok && s.now().Before(one.ends)
}

// end ends a session, and reports whether there was one.
func (s *sessions) end(cookie string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sha256.Sum256([]byte(cookie))
	_, there := s.all[key]
	s.remove(key)
	return there
}

// remove ends a session and what it has asked for. mu is held.
func (s *sessions) remove(key [sha256.Size]byte) {
	if one, ok := s.all[key]; ok {
		one.over()
		delete(s.all, key)
	}
}

// during is ctx until the session is over, by whichever end. Call stop when done.
func (one session) during(ctx context.Context, now time.Time) (_ context.Context, stop func()) {
	ctx, cancel := context.WithTimeout(ctx, one.ends.Sub(now))
	left := context.AfterFunc(one.ctx, cancel)
	return ctx, func() { left(); cancel() }
}

// pages are /login and what stands in for a page that is not to be seen.
var pages = template.Must(template.New("").Parse(`{{define "top"}}<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark"><title>pannier: {{.Title}}</title>{{with .Icon}}
<link rel="icon" href="{{.}}" type="image/svg+xml">{{end}}{{with .Style}}
<link rel="stylesheet" href="{{.}}">{{end}}</head>{{end}}

{{define "login"}}{{template "top" .}}
<body><main class="wide"><section class="card door">{{with .Icon}}<img src="{{.}}" alt="">{{end}}<h1>Log in to this node</h1>{{with .Text}}<p class="notice bad" role="alert">{{.}}</p>{{end}}
<form method="post" action="/login">{{with .Next}}<input type="hidden" name="next" value="{{.}}">{{end}}
<label for="token">Token</label><input id="token" name="token" type="password" autocomplete="current-password" aria-describedby="whence" required autofocus>
<p id="whence" class="hint">As <code>pannier token create</code> has printed it, once.</p>
<button class="primary">Log in</button></form></section></main></body></html>
{{end}}

{{define "plain"}}{{template "top" .}}
<body><main class="wide"><section class="empty"><h1>{{.Title}}</h1><p>{{.Text}}</p><p><a class="button" href="{{.Home}}">To the first page</a></p>{{if .Session}}
<form method="post" action="/logout"><p><button>Log out, and log in with another token</button></p></form>{{end}}</section></main></body></html>
{{end}}`))

// page is what is in one of them.
type page struct {
	Style, Icon, Title, Text string
	Next                     string // of login
	Home                     string // of plain
	Session                  bool
}

// show answers with one of pages.
func (s *Server) show(w http.ResponseWriter, status int, name string, p page) {
	p.Style, p.Icon, p.Home = s.cfg.Style, s.cfg.Icon, s.cfg.Home
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = pages.ExecuteTemplate(w, name, p) // who has gone does not read it
}

// plainPage tells a browser's user why there is no page, and what else there is.
func (s *Server) plainPage(w http.ResponseWriter, r *http.Request, status int, title, text string) {
	_, session := s.session(r)
	s.show(w, status, "plain", page{Title: title, Text: text, Session: session})
}

func (s *Server) loginForm(w http.ResponseWriter, r *http.Request) {
	s.loginPage(w, http.StatusOK, "", r.URL.Query().Get("next"))
}

func (s *Server) loginPage(w http.ResponseWriter, status int, problem, next string) {
	s.show(w, status, "login", page{Title: "log in", Text: problem, Next: local(next)})
}

// local is a path of this server that somebody says to go on to; "" for what leads
// elsewhere.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || u.Opaque != "" || len(next) > mostNext ||
		!strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.HasPrefix(u.Path, "//") || strings.ContainsAny(next, "\\\t\r\n") {
		return ""
	}
	return next
}

const mostNext = 4096 // bytes

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
			WriteError(w, fault.New("log in", fault.TooLong, "the form has more than %d bytes", long.Limit))
			return
		}
		WriteError(w, fault.New("log in", fault.Invalid, "this is no form: %v", err))
		return
	}
	next := r.PostForm.Get("next")
	caller, err := s.cfg.Tokens.Whose(r.PostForm.Get("token"))
	if err != nil {
		if more, ok := s.refusals.Tell(s.cfg.Now()); ok {
			s.cfg.Log.Warn("log in refused", "from", r.RemoteAddr, "unlogged", more)
		}
		s.cfg.Refused(stranger(r), err)
		s.loginPage(w, http.StatusUnauthorized, "This token is unknown or has expired.", next)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: s.sessions.begin(caller.ID), Path: "/", MaxAge: int(sessionTime / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	s.cfg.Log.Info("logged in", "caller", caller.Name, "from", r.RemoteAddr)
	s.cfg.Session(caller.Name, r.RemoteAddr, true)
	http.Redirect(w, r, cmp.Or(local(next), s.cfg.Home), http.StatusSeeOther)
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(cookieName); err == nil {
		if s.sessions.end(c.Value) {
			who := access.CallerOf(r.Context()).Name
			s.cfg.Log.Info("logged out", "caller", who, "from", r.RemoteAddr)
			s.cfg.Session(who, r.RemoteAddr, false)
		}
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
