package web

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// How values are said. They are the words of the command line.

// group is what a request is to those who look for what needs them.
type group string

const (
	running   group = "running"
	waiting   group = "waiting"
	paused    group = "paused"
	failed    group = "failed"
	cancelled group = "cancelled"
	done      group = "done"
)

// groups are all, in the order of the tabs: what an operator looks for first.
var groups = []group{running, failed, waiting, paused, done, cancelled}

func groupOf(r *adminpb.Request) group {
	switch r.GetState() {
	case adminpb.Request_RUNNING:
		return running
	case adminpb.Request_DONE:
		return done
	case adminpb.Request_INERROR:
		if fault.Kind(r.GetFailure().GetKind()) == fault.Canceled {
			return cancelled
		}
		return failed
	}
	if admin.Paused(r) {
		return paused
	}
	return waiting
}

// Word is a group as it is shown; Icon is its sign, so that colour is not the only one.
func (g group) Word() string { return strings.ToUpper(string(g[:1])) + string(g[1:]) }

// size is a number of bytes; -1, which nobody knows, is "-".
func size(n int64) string {
	if n < 0 {
		return "–"
	}
	return humanize.IBytes(uint64(n))
}

// fileName is a name that cannot be taken for something else: quoted if it has anything
// that is not seen.
func fileName(name string) string {
	q := strconv.Quote(name)
	if q[1:len(q)-1] != name && strings.ContainsFunc(name, func(r rune) bool { return !strconv.IsPrint(r) }) || strings.TrimSpace(name) != name {
		return q
	}
	return name
}

// ownName is what the request's file was called at this node.
func ownName(r *adminpb.Request) string {
	if r.GetSide() == adminpb.Request_SENDER {
		return r.GetSource()
	}
	return r.GetTarget()
}

// timer is a time of a message.
type timer interface{ AsTime() time.Time }

// ago is how long ago, or until when.
func ago(t time.Time, now time.Time) string {
	if t.IsZero() {
		return "–"
	}
	if d := now.Sub(t); d < 0 {
		return "in " + span(-d)
	} else if d < time.Second {
		return "now"
	} else {
		return span(d) + " ago"
	}
}

// span is a duration in its largest unit, as "4m".
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 2*day:
		return strconv.Itoa(int(d/time.Hour)) + " h"
	}
	return strconv.Itoa(int(d/day)) + " d"
}

// left is a duration in its two largest units, as "1 min 21 s"; at least a second.
func left(d time.Duration) string {
	d = max(d, time.Second)
	h, m, s := int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60
	switch {
	case h > 0:
		return fmt.Sprintf("%d h %d min", h, m)
	case m > 0:
		return fmt.Sprintf("%d min %d s", m, s)
	}
	return fmt.Sprintf("%d s", s)
}

// clock is a time of day; stamp is a whole time, for programs and titles.
func clock(t time.Time) string { return t.Local().Format("15:04:05") }
func stamp(t time.Time) string { return t.Local().Format(time.RFC3339) }

func shortID(id string) string { return id[:min(len(id), 8)] }

// number is a count; count is one of things.
func number(n int) string { return humanize.Comma(int64(n)) }

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + many
}
