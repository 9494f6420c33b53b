// Package httpd is where a node speaks HTTP: one server for the REST twin of the
// admin service, the admin service itself for those who are elsewhere, and what other
// packages mount, as a web page and metrics.
//
//	New -> Mount... -> Listen... -> Serve
//
// It says who calls and refuses who may not, before a handler sees the request: by
// the user of a unix socket, by a token, or by the session that a browser has got for
// a token at /login. It bounds what a client can cost.
package httpd

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// What a client may cost.
const (
	maxHeader   = 64 << 10 // bytes
	maxUnread   = 64 << 10 // bytes of one connection that no handler has read
	headerTime  = 10 * time.Second
	bodyTime    = 30 * time.Second
	writeTime   = time.Minute // for one answer; handlers that stream set their own: Within
	idleTime    = 2 * time.Minute
	maxConns    = 512 // at one address
	leaveTime   = time.Second
	maxSessions = 1000
)

// Config is what a server is made of.
type Config struct {
	Tokens *access.Tokens     // required
	Local  func(uid int) bool // whether that user of this host may run the node; required
	Admin  http.Handler       // gRPC calls; nil: none
	Home   string             // where /login leads to; default "/"
	Style  string             // path of a style sheet for /login; "": none
	Icon   string             // path of an SVG for /login, or browsers ask for one that they may not have; "": none
	Log    *slog.Logger       // default: none
	// Refused is told of callers who prove nothing that is known, or who may not. nil: nobody is.
	Refused func(who string, err error)
	// Session is told when a browser has begun a session with a token, and when it has ended it. nil: nobody is.
	Session func(who, from string, begun bool)
	Now     func() time.Time // default: time.Now
}

// Server is one. Mount and Listen come before Serve.
type Server struct {
	cfg      Config
	mux      *http.ServeMux
	routes   []Route
	http     *http.Server
	guard    *http.CrossOriginProtection
	sessions *sessions
	bodies   bodies
	conns    int // at one address, at most; set before Listen

	refusals  *access.Refusals // that are logged
	mu        sync.Mutex
	listeners []net.Listener
	once      sync.Once
}

// mostLogged is how many refusals a second are logged.
const mostLogged = 1

// Route is one entry of the mount table.
type Route struct {
	Pattern string // as of http.ServeMux
	Scope   access.Scope
}

// New makes a server with /login and /logout.
func New(cfg Config) (*Server, error) {
	if cfg.Tokens == nil || cfg.Local == nil {
		return nil, fault.New("make HTTP server", fault.Invalid, "set Tokens and Local")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Refused == nil {
		cfg.Refused = func(string, error) {}
	}
	if cfg.Session == nil {
		cfg.Session = func(string, string, bool) {}
	}
	if cfg.Home == "" {
		cfg.Home = "/"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg, mux: http.NewServeMux(), guard: http.NewCrossOriginProtection(), sessions: newSessions(cfg.Now), bodies: bodies{held: map[string]int{}}, conns: maxConns, refusals: access.NewRefusals(mostLogged)}
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serve), MaxHeaderBytes: maxHeader, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime,
		HTTP2:       &http.HTTP2Config{MaxReceiveBufferPerConnection: maxUnread, MaxReceiveBufferPerStream: maxUnread},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return withPlace(withUser(ctx, c), c) }, ErrorLog: log.New(io.Discard, "", 0), // clients that break off are no news
	}
	s.Mount("GET /login", http.HandlerFunc(s.loginForm), access.Public)
	s.Mount("POST /login", http.HandlerFunc(s.login), access.Public)
	s.Mount("POST /logout", http.HandlerFunc(s.logout), access.Any)
	return s, nil
}

// Mount gives requests of a pattern, as of http.ServeMux, to a handler, if the caller
// has the scope. A scope that is none of package access is a mistake of the program, and
// panics: so no route is open because nobody thought of it.
func (s *Server) Mount(pattern string, h http.Handler, scope access.Scope) {
	if !scope.Valid() {
		panic("httpd: " + pattern + " is mounted without a scope")
	}
	s.routes = append(s.routes, Route{pattern, scope})
	s.mux.Handle(pattern, mounted{h, scope})
}

// Routes are all that was mounted.
func (s *Server) Routes() []Route { return slices.Clone(s.routes) }

// mounted is a handler with what it asks of its caller.
type mounted struct {
	http.Handler
	scope access.Scope
}

// CallerOf is who sent a request.
func CallerOf(ctx context.Context) access.Caller { return access.CallerOf(ctx) }

// serve is around each request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	header(w.Header())
	c := http.NewResponseController(w) // what cannot have a deadline is no network
	if r.ContentLength != 0 {          // also of who is refused: the server reads what is left of a body. Without one, the client's end is listened for
		_ = c.SetReadDeadline(time.Now().Add(bodyTime))
	}
	inTime := func() { _ = c.SetWriteDeadline(time.Now().Add(writeTime)) }
	inTime()
	if err := s.guard.Check(r); err != nil {
		WriteError(w, fault.New("check origin", fault.Permission, "a page of another site has sent this; nothing was done").Advise("open the node's own page, and do it there"))
		return
	}
	caller, err := s.caller(r)
	if err != nil {
		s.cfg.Refused(stranger(r), err)
		s.refuse(w, r, err)
		return
	}
	if caller.Check(access.Any) == nil {
		keepPlace(r.Context(), caller.ID)
	}
	if one, ok := s.session(r); ok { // what goes on for long ends with it
		ctx, stop := one.during(r.Context(), s.cfg.Now())
		defer stop()
		r = r.WithContext(ctx)
	}
	if grpcCall(r) && s.cfg.Admin != nil {
		if err := caller.Check(access.Any); err != nil { // or nobody could hold a stream, for which there are no deadlines
			s.refuse(w, r, err)
			return
		}
		body, err := s.bodies.enter(r, caller)
		defer body.leave()
		if err == nil {
			r.Body, err = message(body)
		}
		if err != nil {
			grpcError(w, err)
			return
		}
		_, _ = c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Time{})
		s.cfg.Admin.ServeHTTP(w, r.WithContext(access.With(r.Context(), caller))) // asks each call's scope itself
		return
	}
	h, _ := s.mux.Handler(r)
	m, ok := h.(mounted)
	if !ok { // nothing there, or a redirect of the mux
		if err := caller.Check(access.Any); err != nil {
			s.refuse(w, r, err)
			return
		}
		if pattern := ""; browses(r) {
			if _, pattern = s.mux.Handler(r); pattern == "" {
				s.plainPage(w, r, http.StatusNotFound, "Not here", "There is no page "+r.URL.Path+".")
				return
			}
		}
		s.mux.ServeHTTP(w, r)
		return
	}
	if err := caller.Check(m.scope); err != nil {
		if caller.Name != "" { // who has no token yet is no news
			s.cfg.Refused(caller.Name, err)
		}
		s.refuse(w, r, err)
		return
	}
	most := int64(maxBody)
	if m.scope == access.Public {
		most = maxForm
	}
	if r.ContentLength > most {
		WriteError(w, fault.New("read request", fault.TooLong, "its body has %d bytes, the limit is %d", r.ContentLength, most))
		return
	}
	if r.ContentLength != 0 {
		body, err := s.bodies.enter(r, caller)
		defer body.leave()
		if err != nil {
			WriteError(w, err)
			return
		}
		r.Body = http.MaxBytesReader(w, body, most)
	}
	s.mux.ServeHTTP(w, r.WithContext(access.With(r.Context(), caller)))
	inTime() // for what is written still
}

func grpcCall(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// refuse answers who may not. A browser that asks for a page is led to /login.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if more, ok := s.refusals.Tell(s.cfg.Now()); ok {
		s.cfg.Log.Warn("HTTP request refused", "from", r.RemoteAddr, "path", r.URL.Path, "cause", fault.Plain(err), "unlogged", more)
	}
	if fault.KindOf(err) == fault.Unauthenticated {
		w.Header().Set("WWW-Authenticate", `Bearer realm="pannier"`)
		w.Header().Set("Connection", "close") // who proves nothing keeps no place
		if browses(r) {
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return
		}
	}
	switch {
	case grpcCall(r):
		grpcError(w, err)
	case browses(r):
		p := ProblemOf(err)
		s.plainPage(w, r, Status(fault.KindOf(err)), "Not allowed", p.Error+". To go on: "+p.Advice+".")
	default:
		WriteError(w, err)
	}
}

// browses reports whether a browser asks for a page that is to be shown.
func browses(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// stranger is somebody of whom no more is known than where the request comes from.
func stranger(r *http.Request) string { return "somebody from " + r.RemoteAddr }

// header sets what every answer has.
func header(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store")
}

type userKey struct{}

// withUser notes who is at the other end of a unix socket.
func withUser(ctx context.Context, c net.Conn) context.Context {
	if u, ok := c.(*unixConn); ok {
		return context.WithValue(ctx, userKey{}, u.uid)
	}
	return ctx
}

// session is that of a request which proves nothing else.
func (s *Server) session(r *http.Request) (session, bool) {
	c, err := r.Cookie(cookieName)
	if _, user := r.Context().Value(userKey{}).(int); err != nil || user || r.Header.Get("Authorization") != "" {
		return session{}, false
	}
	return s.sessions.of(c.Value)
}

// caller is who sends a request; nobody if it proves nothing. What it proves wrongly is
// an error: a mistyped token is told, and not taken for a stranger's.
func (s *Server) caller(r *http.Request) (access.Caller, error) {
	if auth := r.Header.Get("Authorization"); auth != "" {
		scheme, token, _ := strings.Cut(auth, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return access.Caller{}, fault.New("authenticate", fault.Unauthenticated, "only tokens are known here: Authorization: Bearer TOKEN")
		}
		return s.cfg.Tokens.Whose(strings.TrimSpace(token))
	}
	if uid, ok := r.Context().Value(userKey{}).(int); ok {
		if !s.cfg.Local(uid) {
			return access.Caller{}, fault.New("authenticate", fault.Permission, "user %d may not run this node", uid)
		}
		return access.Local(uid), nil
	}
	if one, ok := s.session(r); ok {
		if caller, err := s.cfg.Tokens.ByID(one.token); err == nil {
			return caller, nil
		}
	}
	return access.Caller{}, nil
}

// Add serves at a listener of the caller's, too. Who connects there has proved nothing.
func (s *Server) Add(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, l)
}

// Serve answers at all addresses until Close. An error means that one of them has
// failed.
func (s *Server) Serve() error {
	s.mu.Lock()
	all := slices.Clone(s.listeners)
	s.mu.Unlock()
	failed := make(chan error, len(all))
	for _, l := range all {
		go func() {
			err := s.http.Serve(l)
			if errors.Is(err, http.ErrServerClosed) {
				err = nil
			}
			failed <- fault.Wrap("serve HTTP", l.Addr().String(), err)
		}()
	}
	for range all {
		if err := <-failed; err != nil {
			return err
		}
	}
	return nil
}

// Close ends all requests: they have a second.
func (s *Server) Close() {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
		defer cancel()
		if s.http.Shutdown(ctx) != nil {
			_ = s.http.Close()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, l := range s.listeners {
			_ = l.Close() // closed already if it was served
		}
	})
}

// Addresses are where the server listens, with the ports that were chosen.
func (s *Server) Addresses() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		scheme := carrier.TLS
		if l.Addr().Network() == "unix" {
			scheme = carrier.Unix
		}
		all = append(all, scheme+"://"+l.Addr().String())
	}
	return all
}
