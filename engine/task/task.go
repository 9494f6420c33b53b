package task

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
	"github.com/pannier/pannier/spec/relpath"
)

// Task is one step of a list. Run returns when it is done, has failed, or ctx
// has ended; then nothing of it goes on. The error's kind says what failed.
type Task interface {
	Run(ctx context.Context, on *On) (Result, error)
}

// On is what a task works on.
type On struct {
	Key    lifecycle.TaskKey // the same each time this task runs for this request
	Follow lifecycle.ID      // of the first request of the chain
	Hops   uint8             // requests before this one in the chain
	Delays uint32            // how often the request was made due again since an operator's last word
	Root   *os.Root          // of the rule
	File   relpath.Path      // the request's file now, below Root; zero: there is none (any more)
	Vars   Vars
	Log    *slog.Logger
	Next   Forwarder // for transfer; may be nil

	Bridges Bridges // for bridge; may be nil
}

// Forwarder registers requests that tasks ask for.
type Forwarder interface {
	// Forward registers a request and, when wait is set, waits for its end. The
	// id decides what is the same request: a task that runs twice asks once.
	Forward(ctx context.Context, f Forward) (lifecycle.ID, error)
}

// Forward is a request that sends a file on to the next partner.
type Forward struct {
	ID      lifecycle.ID
	Partner string
	Rule    string
	File    relpath.Path
	Follow  lifecycle.ID
	Info    string
	Hops    uint8 // requests before it in the chain; at most 255
	Wait    bool
}

// Result is what a task has done.
type Result struct {
	Moved   bool          // File is the file's name from now on
	File    relpath.Path  // zero: the file is gone
	Output  []byte        // of a command, or what a check found; at most MaxOutput bytes
	Warning bool          // done, but somebody should look
	Again   time.Duration // not failed: the request is interrupted and due again after this; > 0
}

// MaxOutput is the most bytes of output that are kept, the last ones.
const MaxOutput = 64 << 10

// Table is one task as the configuration has it.
type Table struct {
	Task     string   `toml:"task"`
	Argv     []string `toml:"argv"`    // exec
	Timeout  Duration `toml:"timeout"` // any; default one hour
	Warning  []int    `toml:"warning"` // exec: exit codes that are not errors; default none
	From     string   `toml:"from"`    // bridge: "BRIDGE:/NAME", instead of to
	To       string   `toml:"to"`      // move, copy, rename, link: a name with variables; bridge: "BRIDGE:/NAME"
	Path     string   `toml:"path"`    // delete, mkdir: a name with variables; default: the request's file
	Text     string   `toml:"text"`    // log
	Level    string   `toml:"level"`   // log: debug, info, warn, error
	MinSize  *int64   `toml:"min_size"`
	MaxSize  *int64   `toml:"max_size"`
	Name     string   `toml:"name"`   // check: a pattern of path.Match
	Digest   string   `toml:"digest"` // check: "sha256:..." with variables
	Partner  string   `toml:"partner"`
	Rule     string   `toml:"rule"`
	Info     string   `toml:"info"`
	Wait     bool     `toml:"wait"`
	Delay    Duration `toml:"delay"`    // reschedule
	Codes    []string `toml:"codes"`    // reschedule: kinds of failure it is for; none: all
	Attempts int      `toml:"attempts"` // reschedule: how often; default DefaultReschedules
}

// Duration is a time.Duration as text, "30s"; see quantity.ParseDuration.
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := quantity.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) {
	return []byte(quantity.FormatDuration(time.Duration(d))), nil
}

// Maker makes a task from its table, or says what is wrong with that.
type Maker func(*Table) (Task, error)

// Standard is the table of tasks by name. It is a value: a node may add its own.
func Standard() map[string]Maker {
	return map[string]Maker{
		"log": newLog, "exec": newExec, "move": newMove, "copy": newCopy, "rename": newRename, "link": newLink,
		"delete": newDelete, "mkdir": newMkdir, "check": newCheck, "transfer": newTransfer, "bridge": newBridge, "reschedule": newReschedule,
	}
}

// settings are the keys each of them looks at, beside task and timeout.
var settings = map[string][]string{
	"log": {"text", "level"}, "exec": {"argv", "warning"}, "move": {"to"}, "rename": {"to"}, "copy": {"to"}, "link": {"to"}, "bridge": {"to", "from"},
	"delete": {"path"}, "mkdir": {"path"}, "check": {"min_size", "max_size", "name", "digest"},
	"transfer": {"partner", "rule", "info", "wait"}, "reschedule": {"delay", "codes", "attempts"},
}

// Settings are the keys that a task of Standard looks at, beside task and
// timeout.
func Settings(name string) []string { return settings[name] }

// DefaultTimeout ends a task that has none of its own.
const DefaultTimeout = time.Hour

// A Step is a task of a list, with its limit.
type Step struct {
	Name    string
	Task    Task
	Timeout time.Duration
}

// Make makes the steps of a list. The error names the first that is wrong.
func Make(makers map[string]Maker, tables []Table) ([]Step, error) {
	const op = "read tasks"
	if len(tables) > 255 {
		return nil, fault.New(op, fault.Invalid, "%d tasks in one list: at most 255", len(tables))
	}
	var steps []Step
	for i := range tables {
		t := &tables[i]
		maker := makers[t.Task]
		if maker == nil {
			return nil, fault.New(op, fault.Invalid, "task %d is %q, which is not known", i+1, t.Task)
		}
		made, err := maker(t)
		if err != nil {
			return nil, fault.New(op, fault.Invalid, "task %d, %s: %w", i+1, t.Task, err)
		}
		limit := time.Duration(t.Timeout)
		if limit == 0 {
			limit = DefaultTimeout
		}
		steps = append(steps, Step{Name: t.Task, Task: made, Timeout: limit})
	}
	return steps, nil
}

// ErrTimeout is in the error of a step that was ended at its limit. To run it again
// is an operator's decision: it was begun, and nobody knows what it has done.
var ErrTimeout = errors.New("raise its timeout, or look at what it waits for")

// Run runs one step within its limit. What is over the limit is fault.Deadline, and
// ErrTimeout.
func (s Step) Run(ctx context.Context, on *On) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout, fault.New("task "+s.Name, fault.Deadline, "it took longer than %v: %w", s.Timeout, ErrTimeout))
	defer cancel()
	res, err := s.Task.Run(ctx, on)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return res, fault.Wrap("task "+s.Name, on.File.String(), err)
}

func invalid(format string, args ...any) error {
	return fault.New("check table", fault.Invalid, format, args...)
}
