package engine

import (
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/nearest"
	"github.com/pannier/pannier/spec/quantity"
)

// Direction is which way a rule's bytes go, seen from the requester, as in R66.
type Direction uint8

const (
	Send    Direction = 1
	Receive Direction = 2
)

func (d Direction) String() string {
	switch d {
	case Send:
		return "send"
	case Receive:
		return "receive"
	}
	return "unknown"
}

// Side is the requester's side of such a rule.
func (d Direction) Side() lifecycle.Side {
	if d == Receive {
		return lifecycle.Receiver
	}
	return lifecycle.Sender
}

// Window and Windows are times of the week, as texts have them.
type (
	Window  = quantity.Window
	Windows = quantity.Windows
)

// ParseWindow reads one; see quantity.ParseWindow.
func ParseWindow(s string) (Window, error) { return quantity.ParseWindow(s) }

// AnyPartner, in Rule.Partners, allows a rule to every partner there is.
const AnyPartner = "*"

// Rule allows requests and says what this node does with their files. Both
// nodes have a rule of that name; each has its own root and tasks.
type Rule struct {
	Name      string    // 1 to lifecycle.MaxName bytes
	Direction Direction // required
	Partners  []string  // who may use it, with this node as either end; none: nobody
	Root      string    // an absolute directory, in which all its files are; required without Bridge
	// Bridge is where the files are instead, at a server of another protocol: "NAME:/DIR",
	// without Root. Only a sender's are: none are received there, and there are no tasks.
	Bridge   string
	Third    bool   // its files are at other nodes: of third-party copies, which nobody writes
	Exists   Exists // what happens to a file of the target's name
	Quota    int64  // most bytes of a file that is received; sideeffect.NoQuota: no limit. 0 is no byte
	Digest   sideeffect.Algorithm
	Compress sideeffect.Compression
	Priority int8   // of requests that have none of their own
	Pool     string // whose bandwidth its transfers share; empty: none's
	Retry    Retry
	Sender   Lists // what is done when this node is the sender
	Receiver Lists // what is done when this node is the receiver
}

// CopyRule is the name of the rule by which files of a bridge are sent to other bridges.
func CopyRule(bridge string) string { return "@" + bridge }

// Rewrites tells whether a pre task may give a sender's file another content: that is sent then, also
// by the next attempt.
func (r *Rule) Rewrites() bool {
	return slices.ContainsFunc(r.Sender.Pre, func(s task.Step) bool { return s.Other })
}

// Lists are the tasks of one side.
type Lists struct{ Pre, Post, Error []task.Step }

// List is one of them.
func (l *Lists) List(which lifecycle.List) []task.Step {
	switch which {
	case lifecycle.PreList:
		return l.Pre
	case lifecycle.PostList:
		return l.Post
	}
	return l.Error
}

// None tells whether there are no tasks.
func (l *Lists) None() bool { return len(l.Pre)+len(l.Post)+len(l.Error) == 0 }

// counts is how many tasks each list has.
func (l *Lists) counts() [3]uint8 {
	return [3]uint8{uint8(len(l.Pre)), uint8(len(l.Post)), uint8(len(l.Error))}
}

// Lists are the tasks for that side.
func (r *Rule) Lists(s lifecycle.Side) *Lists {
	if s == lifecycle.Sender {
		return &r.Sender
	}
	return &r.Receiver
}

// Allows reports whether the partner may use the rule.
func (r *Rule) Allows(partner string) bool {
	return slices.Contains(r.Partners, partner) || slices.Contains(r.Partners, AnyPartner)
}

// Check refuses, as fault.Invalid, a rule that cannot work. It does not look at
// the disk.
func (r *Rule) Check() error {
	const op = "check rule"
	switch {
	case r.Name == "" || len(r.Name) > lifecycle.MaxName:
		return fault.New(op, fault.Invalid, "its name has %d bytes; 1 to %d are allowed", len(r.Name), lifecycle.MaxName)
	case r.Direction != Send && r.Direction != Receive:
		return fault.New(op, fault.Invalid, "rule %q: set direction to \"send\" or \"receive\", as the requester sees it", r.Name)
	case r.Bridge != "" && (r.Root != "" || task.BridgeOf(r.Bridge) == ""):
		return fault.New(op, fault.Invalid, "rule %q: a bridge and a directory at it, as \"warehouse:/out\", and no other root", r.Name)
	case r.Bridge == "" && (r.Root == "" || r.Root[0] != '/'):
		return fault.New(op, fault.Invalid, "rule %q: set root to the whole path of a directory", r.Name)
	case r.Quota < sideeffect.NoQuota:
		return fault.New(op, fault.Invalid, "rule %q: a quota of %d bytes", r.Name, r.Quota)
	}
	for _, l := range []*Lists{&r.Sender, &r.Receiver} {
		if r.Bridge != "" && !l.None() {
			return fault.New(op, fault.Invalid, "rule %q: its root is at a bridge, where tasks have no file", r.Name)
		}
		if len(l.Pre) > 255 || len(l.Post) > 255 || len(l.Error) > 255 {
			return fault.New(op, fault.Invalid, "rule %q: more than 255 tasks in a list", r.Name)
		}
	}
	return r.Retry.check(r.Name)
}

// Exists says what happens when a file of the target's name is there.
type Exists uint8

const (
	Overwrite Exists = 0 // it is replaced, in one step
	Refuse    Exists = 1 // the request fails
)

func (e Exists) String() string {
	if e == Refuse {
		return "refuse"
	}
	return "replace"
}

// Retry is what happens after an attempt that failed for a reason that may go
// away: a lost connection, a full disk, a busy partner.
type Retry struct {
	Attempts int           // without progress, in a row, until the request fails; default 5
	Delay    time.Duration // until the second attempt; default 30 s
	Factor   float64       // each further delay; default 2
	Most     time.Duration // longest delay; default 1 h
	Windows  Windows       // when attempts may begin; none: always
}

// Defaults of Retry.
const (
	DefaultAttempts = 5
	DefaultDelay    = 30 * time.Second
	DefaultFactor   = 2
	DefaultMost     = time.Hour
)

func (r *Retry) check(rule string) error {
	const op = "check rule"
	switch {
	case r.Attempts < 0 || r.Delay < 0 || r.Most < 0 || r.Factor < 0:
		return fault.New(op, fault.Invalid, "rule %q: a negative number in retry", rule)
	case r.Factor != 0 && r.Factor < 1:
		return fault.New(op, fault.Invalid, "rule %q: retry.factor is %v: write at least 1", rule, r.Factor)
	}
	return nil
}

// filled is r with its defaults.
func (r Retry) filled() Retry {
	if r.Attempts == 0 {
		r.Attempts = DefaultAttempts
	}
	if r.Delay == 0 {
		r.Delay = DefaultDelay
	}
	if r.Factor == 0 {
		r.Factor = DefaultFactor
	}
	if r.Most == 0 {
		r.Most = DefaultMost
	}
	return r
}

// Partner is another node.
type Partner struct {
	Name       string    // as it calls itself; 1 to lifecycle.MaxName bytes
	Address    string    // "tls://host:port", "unix:///path", "tcp://127.0.0.1:port"; empty: it only calls us
	Keys       []string  // "sha256:..." of those it may have; two while rotating
	Bandwidth  Timetable // both ways together; none: no limit
	Pool       string    // whose bandwidth it shares; empty: none's
	Concurrent int       // requests that run at a time; default DefaultConcurrent
	Bridge     bool      // it is a server of another protocol
	Open       int       // requests of its own that may be open at this node, of failed ones failedToOpen times as many; default DefaultOpen
	ThirdParty []string  // rules by which this node makes requests to others for it; none: it makes none
}

// DefaultConcurrent is how many requests of one partner run at a time.
const DefaultConcurrent = 64

// Book is who the partners are and what the rules say. It is a value: an
// engine takes another as a whole with SetBook.
type Book struct {
	Partners map[string]*Partner
	Rules    map[string]*Rule
	Pools    map[string]*Pool // those that partners and rules name are in it
}

// Partner finds a partner; NotFound without one.
func (b *Book) Partner(name string) (*Partner, error) {
	if p := b.Partners[name]; p != nil {
		return p, nil
	}
	return nil, fault.New("find partner", fault.NotFound, "no partner is called %q%s", name, nearest.MeantOf(name, b.Partners))
}

// calls reports whether the partner is there and has an address. One that has lost either, by a
// new book, is waited for like one that is down.
func (b *Book) calls(name string) bool {
	p := b.Partners[name]
	return p != nil && p.Address != ""
}

// Rule finds a rule; NotFound without one.
func (b *Book) Rule(name string) (*Rule, error) {
	if r := b.Rules[name]; r != nil {
		return r, nil
	}
	if strings.HasPrefix(name, thirdPrefix) {
		return thirdRule(name), nil
	}
	return nil, fault.New("find rule", fault.NotFound, "no rule is called %q%s", name, nearest.MeantOf(name, b.Rules))
}

// name puts the names of tasks to their runs at this end. Where the rule has another number of
// tasks now nobody knows which they were.
func (b Book) name(x *Steps, rule string) {
	r := b.Rules[rule]
	if r == nil || r.Lists(x.Side).counts() != x.All {
		return
	}
	for i := range x.Tasks {
		t := &x.Tasks[i]
		if list := r.Lists(x.Side).List(t.List); t.Number > 0 && int(t.Number) <= len(list) {
			t.Name = list[t.Number-1].Name
		}
	}
}

// Keeps reports whether the file of a record that is DONE still has to be what was moved: no
// task of the receiver's came after the bytes that may have given it another content. Where
// the rule has another number of tasks now nobody knows which they were.
func (r *Rule) Keeps(rec *lifecycle.Record) bool {
	n, now := int(rec.Spec.Tasks[lifecycle.PostList]), r.Receiver.Post
	if n != len(now) {
		return n == 0
	}
	return !slices.ContainsFunc(now, func(s task.Step) bool { return s.Other })
}
