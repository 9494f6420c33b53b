package metrics

import (
	"fmt"
	"net/http"
)

// Live answers 200 for as long as the process can answer at all.
func Live() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
}

// Condition is one thing that has to be so before a node is ready.
type Condition struct {
	Name string
	Met  func() error // nil: it is so; else why not, in words that anybody may read
}

// Ready answers 200 if all conditions are met, else 503, a line for each with "ok" or
// why not.
func Ready(conditions ...Condition) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		code, text := http.StatusOK, ""
		for _, c := range conditions {
			is := "ok"
			if err := c.Met(); err != nil {
				code, is = http.StatusServiceUnavailable, err.Error()
			}
			text += fmt.Sprintf("%s: %s\n", c.Name, is)
		}
		say(w, code, text)
	})
}

func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	fmt.Fprintln(w, text)
}
