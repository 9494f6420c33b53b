package guest

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// User is a foreign client that may log in.
type User struct {
	Name     string
	Keys     string // absolute path of its public keys, as in authorized_keys; "": none
	Password string // absolute path of the hash of its password; "": none
	Partner  string // who gets what it uploads, and has what it downloads
	Send     string // rule of its uploads; "": it may not
	Get      string // rule of its downloads; "": it may not
	// Wait is how long its upload waits for the partner to have the file, which is the
	// answer then; 0: it is answered when the request is durable.
	Wait time.Duration
}

// Engine is what a guest needs of an engine; *engine.Engine is one.
type Engine interface {
	Submit(ctx context.Context, o engine.Order) (_ lifecycle.Record, made bool, err error)
	Wait(ctx context.Context, ref store.Ref) (lifecycle.Record, error)
	Cancel(ctx context.Context, ref store.Ref, why string) (lifecycle.Record, error)
	Get(ctx context.Context, ref store.Ref) (engine.Status, error)
	Find(ctx context.Context, q store.Query) iter.Seq2[engine.Status, error]
	Book() engine.Book
}

// Far is what there is at a partner, by a rule to receive by.
type Far interface {
	// Stat is NotFound where there is nothing.
	Stat(ctx context.Context, partner, rule string, name relpath.Path) (plugins.Attr, error)
	// List yields what is in a directory; the zero Path is the root.
	List(ctx context.Context, partner, rule string, dir relpath.Path, yield func(plugins.Attr) bool) error
}

// Node is one listener's. It is a plugins.Driver, whose methods may be called at the same
// time.
type Node struct {
	Listener string // how the log calls it
	Engine   Engine
	Far      Far
	Layer    sideeffect.Layer // nil: the operating system
	Log      *slog.Logger
	// Remains is where what uploads leave that break off is noted, of all listeners of the
	// node. nil: they leave nothing.
	Remains *Remains
	// Namings is where it is noted which uploads are given their names. nil: nowhere.
	Namings *Namings
	// Refused is told of clients that were not let in. nil: nobody is.
	Refused func(who string, err error)

	users atomic.Pointer[map[string]User]
	files files
}

// SetUsers says who may log in from now on. Who has stays, but a user that is another now, or none,
// has to log in again before it can do anything more.
func (n *Node) SetUsers(all []User) {
	m := map[string]User{}
	for _, u := range all {
		m[u.Name] = u
	}
	n.users.Store(&m)
}

// Users are the names of those who may log in.
func (n *Node) Users() []string {
	m := n.users.Load()
	if m == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(*m))
}

// Describe implements plugins.Driver.
func (n *Node) Describe() plugins.Description { return plugins.Description{Name: "node"} }

// Open implements plugins.Driver: it lets a client in, if it proves to be a user.
func (n *Node) Open(ctx context.Context, who plugins.Endpoint) (plugins.Session, error) {
	from, _ := strings.CutPrefix(who.URL, "guest://")
	u, known := (*n.users.Load())[who.User]
	err := u.proved(ctx, known, who)
	if err != nil && ctx.Err() != nil {
		return nil, err // it was not looked at
	}
	if err != nil {
		n.Log.Warn("a foreign client was not let in", "listener", n.Listener, "user", fault.Shown(who.User), "from", fault.Shown(from), "why", err)
		if n.Refused != nil {
			n.Refused("user "+who.User+" from "+from+" at "+n.Listener, err)
		}
		return nil, fault.New("log in", fault.Unauthenticated, "the user or what proves it is wrong")
	}
	if who.Secrets["key"] == "" && who.Secrets["offered"] != "" {
		return n.session(User{}, from), nil // nothing is proved: it may do nothing
	}
	n.Log.Info("a foreign client has logged in", "listener", n.Listener, "user", u.Name, "from", fault.Shown(from))
	return n.session(u, from), nil
}
