package httpd

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/pannier/pannier/spec/fault"
)

// Problem is the body of an answer that is an error.
type Problem struct {
	Error  string `json:"error"`  // what went wrong, for people
	Kind   string `json:"kind"`   // name of the fault's kind, as "not found"
	Number int    `json:"number"` // of the kind
	Advice string `json:"advice"` // what helps; may be empty
}

// Status is the HTTP status that a kind of failure has.
func Status(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.TooLong:
		return http.StatusRequestEntityTooLarge
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Exists, fault.Refused, fault.NotStarted, fault.WrongBackend, fault.SourceChanged:
		return http.StatusConflict
	case fault.Stale:
		return http.StatusPreconditionFailed
	case fault.Permission:
		return http.StatusForbidden
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Unsupported:
		return http.StatusNotImplemented
	case fault.Overloaded, fault.QuotaExceeded:
		return http.StatusTooManyRequests
	case fault.NoSpace:
		return http.StatusInsufficientStorage
	case fault.Deadline:
		return http.StatusGatewayTimeout
	case fault.Lost, fault.DeadPeer, fault.Draining:
		return http.StatusServiceUnavailable
	case fault.Canceled:
		return 499 // the client has gone; nobody reads it
	}
	return http.StatusInternalServerError
}

// advice is what helps with a kind of failure where the words of the error do not say it.
var advice = map[fault.Kind]string{
	fault.Unauthenticated: "send a token: Authorization: Bearer TOKEN; pannier token create makes one",
	fault.Permission:      "use a token with a wider scope, or ask who administers the node",
	fault.Stale:           "read the object again, and send its ETag in If-Match",
	fault.Overloaded:      "try again later",
	fault.Draining:        "try again when the node is back",
	fault.Lost:            "try again later",
	fault.DeadPeer:        "try again later",
}

// ProblemOf is an error as it is answered.
func ProblemOf(err error) Problem {
	k := fault.KindOf(err)
	p := Problem{Error: fault.Plain(err), Kind: k.String(), Number: int(k), Advice: advice[k]}
	var f *fault.Error
	if errors.As(err, &f) && f.Advice != "" {
		p.Advice = f.Advice
	}
	return p
}

// WriteError answers with an error, if nothing was answered yet.
func WriteError(w http.ResponseWriter, err error) {
	p := ProblemOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(Status(fault.KindOf(err)))
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // for people; it is JSON, and nosniff says so
	_ = e.Encode(p)        // whoever has gone does not read it
}

// grpcError answers a gRPC call that no service has seen.
func grpcError(w http.ResponseWriter, err error) {
	code := 7 // PERMISSION_DENIED
	switch fault.KindOf(err) {
	case fault.Unauthenticated:
		code = 16
	case fault.Overloaded:
		code = 8 // RESOURCE_EXHAUSTED
	case fault.Deadline:
		code = 4 // DEADLINE_EXCEEDED
	case fault.Lost, fault.Canceled:
		code = 1 // CANCELLED
	}
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Del("Connection")
	h.Set("Grpc-Status", strconv.Itoa(code))
	h.Set("Grpc-Message", strconv.QuoteToASCII(fault.Plain(err)))
	w.WriteHeader(http.StatusOK)
}
