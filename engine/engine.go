package engine

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/relpath"
)

// Config is what an engine is made of. The zero values of what is not required
// are the defaults.
type Config struct {
	Node  string      // this node's name; 1 to lifecycle.MaxName bytes; required
	Store store.Store // required; stays the caller's
	Line  Line        // required unless the node only serves
	Book  Book

	Concurrent int           // requests that run at a time; default 256
	Serving    int           // requests that are served at a time; default 1024
	Bandwidth  int64         // bytes a second of all transfers together; 0: no limit
	Patience   time.Duration // how long the requested end waits for the requester before it gives up; default 7 days
	Retention  time.Duration // of records that are DONE; default 30 days, at least lifecycle.MinRetention
	Layer      sideeffect.Layer
	Log        *slog.Logger
}

// Order is a request to be registered.
type Order struct {
	ID       lifecycle.ID // zero: a new one is made. The same again is the same request
	Partner  string
	Rule     string
	Source   relpath.Path // below the sender's root of the rule
	Target   relpath.Path // below the receiver's; zero: as Source
	Priority int8         // 0: the rule's
	NotAt    time.Time
	Follow   lifecycle.ID // zero: its own id
	Info     string
}

// Engine is one node. All methods may be called at the same time. Errors are
// *fault.Error.
type Engine struct{ contract }

// contract is what the packages above build on.
type contract interface {
	// Submit registers a request; made is false when it was registered before.
	// Once it has returned the request is durable.
	Submit(ctx context.Context, o Order) (_ lifecycle.Record, made bool, err error)

	// Get is one request at this node. NotFound without one.
	Get(ctx context.Context, ref store.Ref) (Status, error)
	// Find yields requests as store.Find does.
	Find(ctx context.Context, q store.Query) iter.Seq2[Status, error]
	// Events are what happened to a request at this node.
	Events(ctx context.Context, ref store.Ref) ([]store.Entry, error)
	// Explain says why a request is as it is and what happens next.
	Explain(ctx context.Context, ref store.Ref) (Explanation, error)
	// Watch yields changes from now on, progress included, of the requests that
	// match, until ctx ends. It first yields those that are not final as they are.
	Watch(ctx context.Context, q store.Query) iter.Seq2[Change, error]
	// Wait returns when the request is final.
	Wait(ctx context.Context, ref store.Ref) (lifecycle.Record, error)

	// Pause, Resume, Cancel and Retry are an operator's word; see spec/engine.md.
	Pause(ctx context.Context, ref store.Ref) (lifecycle.Record, error)
	Resume(ctx context.Context, ref store.Ref) (lifecycle.Record, error)
	Cancel(ctx context.Context, ref store.Ref, why string) (lifecycle.Record, error)
	Retry(ctx context.Context, ref store.Ref) (lifecycle.Record, error)

	// Partners is how they are doing, by name.
	Partners() []PartnerStatus
	// Reach connects to a partner now, whatever its back-off.
	Reach(ctx context.Context, partner string) (PartnerStatus, error)
	// Book is the present one; SetBook replaces it for what begins from now on.
	Book() Book
	SetBook(Book) error

	// Serve is what the network calls for each call of a partner whose name is
	// proved. effect is nil unless the call carries one.
	Serve(ctx context.Context, partner string, a Ask, effect Effect) (Answer, error)

	// Purge forgets DONE requests that were changed before that time.
	Purge(ctx context.Context, before time.Time) (int, error)
	// Drain takes nothing new, gives what runs until ctx ends, then interrupts it.
	// Close is Drain without patience. Neither closes the store.
	Drain(ctx context.Context) error
	Close() error
}

// Open makes an engine and starts it: what a process before has left running is
// interrupted and due again.
func Open(ctx context.Context, cfg Config) (*Engine, error) { return nil, nil }
