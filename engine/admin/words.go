package admin

import (
	"fmt"
	"time"

	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
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

// Waits is why a request waits that nothing is wrong with; "": nothing is said. Where an operator
// has paused it, its time is when it is given up, and not when it goes on.
func Waits(r *adminpb.Request) string {
	switch {
	case !Paused(r):
		return r.GetReason()
	case r.GetOwner() == r.GetRole():
		return "paused here"
	}
	return "paused at the partner"
}

// Paused says whether an operator of either end has paused a request.
func Paused(r *adminpb.Request) bool { return r.GetReason() == "stopped" }

// Left is how long the bytes of what runs will take at the rate they have now; 0: nobody knows.
func Left(l *adminpb.Live) time.Duration {
	const most = 100 * 24 * 3600
	if seconds := float64(l.GetTotal()-max(l.GetReceived(), l.GetDurable())) / l.GetRate(); seconds > 0 && seconds < most {
		return time.Duration(seconds * float64(time.Second))
	}
	return 0
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

// Task is which one of its list has run, and what it is where that is known: "task 2, exec".
func Task(r *adminpb.TaskRun) string {
	text := fmt.Sprintf("task %d", r.GetNumber())
	if r.GetName() != "" {
		text += ", " + r.GetName()
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
	case r.GetState() == adminpb.Request_INTERRUPTED && fault.Kind(r.GetFailure().GetKind()) == fault.Overloaded && r.GetFailure().GetSide() != "here":
		return fmt.Sprintf("%d; put off, which is not counted, and %d in a row may bring no progress", n, most)
	}
	return fmt.Sprintf("%d; it has got further, and %d in a row may bring no progress", n, most)
}
