package rest

import (
	"net/http"
	"strings"

	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/spec/fault"
)

// conditional carries out the conditions of a request, or refuses those that nothing here
// would look at: who asks for a condition does not get what happens without one.
type conditional struct{ http.Handler }

func (c conditional) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const op = "read conditions"
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	known := strings.Join(r.Header.Values("If-None-Match"), ",")
	makes := r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, objectPrefix) && known == "*" // only what is not there yet
	switch {
	case makes && r.Header.Get("If-Match") != "":
		httpd.WriteError(w, fault.New(op, fault.Invalid, "If-Match asks for an object that is there, If-None-Match for none: send one of them"))
		return
	case known != "" && !reads && !makes:
		httpd.WriteError(w, fault.New(op, fault.Unsupported, "If-None-Match is for GET, and with * for PUT of an object that is not there yet: what changes one takes If-Match"))
		return
	case r.Header.Get("If-Match") != "" && (reads || !strings.HasPrefix(r.URL.Path, objectPrefix)):
		httpd.WriteError(w, fault.New(op, fault.Unsupported, "If-Match is for PUT and DELETE of an object; POST %sobjects:apply has the field revision", Prefix))
		return
	case known != "" && reads:
		w = &unless{ResponseWriter: w, known: known}
	}
	c.Handler.ServeHTTP(w, r)
}

const objectPrefix = Prefix + "objects/"

// unless is an answer that is not written if it has an ETag that is known.
type unless struct {
	http.ResponseWriter
	known string
	begun bool
	left  bool // out
}

// Unwrap is for http.ResponseController.
func (u *unless) Unwrap() http.ResponseWriter { return u.ResponseWriter }

func (u *unless) WriteHeader(status int) {
	u.begun = true
	if tag := u.Header().Get("ETag"); status == http.StatusOK && tag != "" && hasTag(u.known, tag) {
		u.left = true
		u.Header().Del("Content-Type")
		u.Header().Del("Content-Length")
		status = http.StatusNotModified
	}
	u.ResponseWriter.WriteHeader(status)
}

func (u *unless) Write(b []byte) (int, error) {
	if !u.begun {
		u.WriteHeader(http.StatusOK)
	}
	if u.left {
		return len(b), nil
	}
	return u.ResponseWriter.Write(b)
}

// hasTag reports whether a list of ETags has one of ours, which have no commas.
func hasTag(list, tag string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}
