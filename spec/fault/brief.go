package fault

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// Brief is what went wrong, in one line for people who are told beside it which kind
// of failure it is and whose: what was done last and to what, and why that failed.
// What has only passed the failure on, and what is said twice, is left out; so is
// advice. Of what a peer has reported it is the peer's words.
func Brief(err error) string {
	var done []string
	for err != nil {
		e, ok := err.(*Error)
		if !ok {
			inner := errors.Unwrap(err)
			if inner == nil || inner.Error() != err.Error() {
				break
			}
			err = inner
			continue
		}
		if e.Side == Peer {
			done = nil
		}
		if e.Op != "" && !slices.Contains(passedOn, e.Op) && !strings.HasPrefix(e.Op, "/") {
			what := e.Op
			if e.Subject != "" {
				what += " " + quoted(e.Subject)
			}
			done = append(done, what)
		}
		if err = e.Err; err == nil && len(done) == 0 {
			done = append(done, e.Op)
		}
	}
	if n := len(done); n > 1 && !isTask.MatchString(done[0]) {
		done = done[n-1:]
	}
	if err != nil {
		said := Plain(err)
		if t, ok := err.(told); ok {
			said = Relayed(string(t))
		}
		done = append(done, said)
	}
	return strings.Join(done, ": ")
}

// Help is Brief with all advice: for people who can follow it.
func Help(err error) string {
	return strings.Join(append([]string{Brief(err)}, advices(err)...), "; ")
}

// isTask is an operation that says which task it was.
var isTask = regexp.MustCompile(`^((pre|post|error) )?task `)

// passedOn are operations that say where an error has come along and not what was
// done.
var passedOn = []string{
	"call partner", "call the partner", "carry out the request", "serve", "serve call", "call", "open side effect", "run side effect", "open sink",
	"session", "stream", "connect", "dial", "call daemon",
}

// Relayed is what a peer has reported, for people: without what it is known by: the kinds, who
// reports, what has passed it on.
func Relayed(text string) string {
	parts := strings.Split(text, ": ")
	for i, p := range slices.Backward(parts) {
		if p == "peer reports" {
			parts = parts[i+1:]
			break
		}
	}
	var kept []string
	for i, p := range parts {
		kind := slices.ContainsFunc(Kinds(), func(k Kind) bool { return k.String() == p })
		switch last := len(kept) - 1; {
		case kind && i < len(parts)-1, p == "concluded", slices.Contains(passedOn, p), strings.HasPrefix(p, "/") && i < len(parts)-1:
		case last >= 0 && kept[last] == p:
		case p == "...":
			kept = append(kept, "the log there says more")
		default:
			kept = append(kept, unsaid.ReplaceAllString(p, ""))
		}
	}
	return strings.Join(slices.Compact(kept), ": ")
}

// unsaid is what a peer has kept for itself, in parentheses.
var unsaid = regexp.MustCompile(` \([^()]*\.\.\.\)`)
