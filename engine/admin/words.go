package admin

import (
	"fmt"

	"github.com/pannier/pannier/spec/adminpb"
)

// Words that the commands and the web page have in common.

// Partner is who the bytes come from or go to; of a third-party copy both, for none come here.
func Partner(r *adminpb.Request) string {
	switch {
	case r.GetThird() == "":
		return r.GetPartner()
	case r.GetFetch():
		return r.GetThird() + " to " + r.GetPartner()
	}
	return r.GetPartner() + " to " + r.GetThird()
}

// Problem is a failure in a line; "" for none.
func Problem(f *adminpb.Failure) string {
	if f == nil {
		return ""
	}
	text := f.GetName()
	if f.GetSide() == "peer" {
		text += " at the partner"
	}
	if f.GetPhase() != "" {
		text += ", in " + f.GetPhase()
	}
	if f.GetCause() != "" {
		text += ": " + f.GetCause()
	}
	return text
}

// Unheard is of which changes of a folder the kernel does not tell, and why; "": of none.
func Unheard(f *adminpb.Folder) string {
	const rescans = "are only found by looking through everything: "
	switch {
	case f.GetHints() == "":
		return ""
	case f.GetPartly():
		return "changes of some directories " + rescans + f.GetHints()
	}
	return "changes " + rescans + f.GetHints()
}

// Attempt is which attempt of how many a request is at. most is how many in a row may bring no
// progress, which is what a rule's attempts counts; 0: nobody knows.
func Attempt(r *adminpb.Request, most uint32) string {
	n, streak := r.GetAttempt(), r.GetStreak()
	switch {
	case n == 0:
		return "none has begun"
	case most == 0 || r.GetState() == adminpb.Request_DONE || r.GetRole() != adminpb.Request_REQUESTER:
		return fmt.Sprint(n)
	case streak == n:
		return fmt.Sprintf("%d of %d", n, most)
	case streak > 0:
		return fmt.Sprintf("%d; %d of %d in a row without progress", n, streak, most)
	case r.GetState() == adminpb.Request_INERROR:
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d; it has got further, and %d in a row may bring no progress", n, most)
}
