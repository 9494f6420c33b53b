package web

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// row is a request as a list shows it. Rows that are equal look equal.
type row struct {
	Key, Ref, Href      string
	Name, Partner, Rule string
	Dir, Base           string // of Name, so that what tells files apart is seen; each in quotes of its own
	Other               string // its name at the other end, where that is another: "as x", "from x"
	In                  bool   // to here
	Between             bool   // neither: a third-party copy
	state
	progress
	why
}

// The parts of a row that change by themselves, each a cell.
type (
	state struct {
		Group group
		Since string // when it changed last
	}
	progress struct {
		Known       bool // how much the whole is
		Part        int  // of it is safe at the receiver, in thousandths; settled: the transfer is done
		Percent     string
		Safe, Whole string
		Moving      bool
	}
	why struct {
		Rate, Left string
		Why        string
		Bad        bool
	}
)

// settled is the part of what is done: nothing about it moves any more.
const settled = 1001

// keyOf names a record of the node in a page: digits, letters and dashes.
func keyOf(r *adminpb.Request) string {
	sum := sha256.Sum256([]byte(r.GetRequester()))
	return "r" + r.GetId() + "-" + strconv.Itoa(int(r.GetRole())) + "-" + hex.EncodeToString(sum[:3])
}

// refText names a record in a form: id:role:requester.
func refText(r *adminpb.Request) string {
	return r.GetId() + ":" + strconv.Itoa(int(r.GetRole())) + ":" + r.GetRequester()
}

func readRef(text string) (*adminpb.Ref, error) {
	parts := strings.SplitN(text, ":", 3)
	if len(parts) != 3 {
		return nil, fault.New("read form", fault.Invalid, "%.80q names no transfer", text)
	}
	role, err := strconv.Atoi(parts[1])
	if err != nil || role < 0 || role > int(adminpb.Request_REQUESTED) {
		return nil, fault.New("read form", fault.Invalid, "%.80q names no transfer", text)
	}
	return &adminpb.Ref{Id: parts[0], Role: adminpb.Request_Role(role), Requester: parts[2]}, nil
}

// hrefOf is where a request's page is; its own requests have the shortest.
func hrefOf(r *adminpb.Request) string {
	path := "/transfers/" + r.GetId()
	if r.GetRole() == adminpb.Request_REQUESTED {
		path += "?" + url.Values{"from": {r.GetRequester()}, "role": {"requested"}}.Encode()
	}
	return path
}

func rowOf(r *adminpb.Request, now time.Time) row {
	name, other := ownName(r), ""
	switch {
	case r.GetSource() == r.GetTarget():
	case r.GetSide() == adminpb.Request_SENDER:
		other = "as " + fileName(r.GetTarget())
	default:
		other = "from " + fileName(r.GetSource())
	}
	base := strings.LastIndexByte(name, '/') + 1
	return row{
		Dir: fileName(name[:base]), Base: fileName(name[base:]), Key: keyOf(r), Ref: refText(r), Href: hrefOf(r), Name: fileName(name), Other: other, Partner: admin.Partner(r), Between: r.GetThird() != "", Rule: r.GetRule(),
		In: r.GetSide() == adminpb.Request_RECEIVER, state: stateOf(r, now), progress: progressOf(r), why: whyOf(r, now),
	}
}

func stateOf(r *adminpb.Request, now time.Time) state {
	s := state{Group: groupOf(r)}
	if s.Group != running && r.GetChanged() != nil {
		s.Since = ago(r.GetChanged().AsTime(), now)
	}
	return s
}

// safeOf is how many bytes are safe at the receiver, and the whole; -1: unknown.
func safeOf(r *adminpb.Request) (safe, whole int64) {
	safe, whole = r.GetDurable(), r.GetSize()
	if l := r.GetLive(); l != nil {
		safe = max(safe, l.GetDurable())
		if l.GetTotal() > 0 {
			whole = max(whole, l.GetTotal())
		}
	}
	if r.GetState() == adminpb.Request_DONE && whole >= 0 {
		safe = whole
	}
	return safe, whole
}

// progressOf never says that all is safe before it is.
func progressOf(r *adminpb.Request) progress {
	safe, whole := safeOf(r)
	p := progress{Safe: size(max(safe, 0)), Whole: size(whole), Known: whole >= 0, Moving: r.GetState() == adminpb.Request_RUNNING}
	switch {
	case r.GetState() == adminpb.Request_DONE:
		p.Part = settled
	case whole > 0 && safe >= whole:
		p.Part = 1000
	case whole > 0:
		p.Part = min(int(float64(safe)/float64(whole)*1000), 999)
	}
	p.Percent = strconv.Itoa(min(p.Part, 1000)/10) + " %"
	return p
}

// whyOf is how fast it is, what holds it up, or why it waits.
func whyOf(r *adminpb.Request, now time.Time) (w why) {
	switch r.GetState() {
	case adminpb.Request_RUNNING:
		l := r.GetLive()
		if rate := l.GetRate(); rate >= 1 {
			w.Rate = humanize.IBytes(uint64(rate)) + "/s"
			if d := admin.Left(l); d > 0 {
				w.Left = left(d)
			}
		}
		switch {
		case l.GetLimit() != "":
			w.Why = "limited by the " + l.GetLimit()
		case l.GetDoing() != "":
			w.Why = l.GetDoing()
		default:
			w.Why = strings.ToLower(r.GetStep())
		}
	case adminpb.Request_TOSUBMIT, adminpb.Request_INTERRUPTED:
		w.Why = waits(r, now)
	case adminpb.Request_INERROR:
		w.Why, w.Bad = admin.Problem(r.GetFailure()), groupOf(r) == failed
	case adminpb.Request_DONE:
		switch {
		case r.GetWarning() != "":
			w.Why, w.Bad = "warning: "+r.GetWarning(), true
		case r.GetVerified() != "":
			w.Why = "verified"
		}
	}
	return w
}

// waits is why a request does not run, and until when.
func waits(r *adminpb.Request, now time.Time) string {
	text := cmp.Or(admin.Waits(r), "waits for its turn")
	if t := r.GetDue(); t != nil && t.AsTime().After(now.Add(time.Second)) && !admin.Paused(r) {
		text += ", due " + ago(t.AsTime(), now)
	}
	if f := admin.Problem(r.GetFailure()); f != "" {
		text += ": " + f
	}
	return text
}
