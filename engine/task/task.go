package task

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
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
	Again  bool              // it may have run for this request before, and not have ended
	Follow lifecycle.ID      // of the first request of the chain
	Hops   uint8             // requests before this one in the chain
	Delays uint32            // how often the request was made due again since an operator's last word
	Root   *os.Root          // of the rule
	File   relpath.Path      // the request's file now, below Root; zero: there is none (any more)
	Moved  bool              // File has to be what was moved: no task before this one may have given it another content
	Vars   Vars
	Log    *slog.Logger
	Next   Forwarder // for transfer; may be nil

	Bridges Bridges // for bridge; may be nil

	Record      *lifecycle.Record // as it is before this task; not to be changed. For what tells of it
	Signer      Signer            // this node's key, for receipts; may be nil
	PartnerKeys []string          // keys by which the partner is known; none: over a unix socket, or the node itself
}

// Signer is a node's key.
type Signer interface {
	// Key is what partners pin: "sha256:" and the digest of the public key.
	Key() string
	// Sign signs a text. public is the key as SubjectPublicKeyInfo, DER.
	Sign(text []byte) (public, signature []byte, err error)
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
	Warning string        // done, but somebody should look: why, in a line; empty: nobody has to
	Again   time.Duration // not failed: the request is interrupted and due again after this; > 0
}

// MaxOutput is the most bytes of output that are kept, the last ones.
const MaxOutput = 64 << 10

// Table is one task as the configuration has it: one key for each setting there is.
// spec/tasks.md says which task looks at which, and spec/config.md what they mean.
type Table struct {
	Task       string            `toml:"task"`
	Argv       []string          `toml:"argv"`    // exec
	Timeout    Duration          `toml:"timeout"` // any; default Kind.Limit
	Warning    []int             `toml:"warning"` // exec: exit codes that are not errors; default none
	From       string            `toml:"from"`    // bridge: "BRIDGE:/NAME", instead of to; mail: an address
	To         string            `toml:"to"`      // the name of what is made, with variables; bridge: "BRIDGE:/NAME"; mail: addresses
	Path       string            `toml:"path"`    // the name of what is worked on, with variables; default: the request's file
	Text       string            `toml:"text"`    // log, http, mail: with variables
	Level      string            `toml:"level"`   // log: debug, info, warn, error
	MinSize    *Size             `toml:"min_size"`
	MaxSize    *Size             `toml:"max_size"` // check: bytes of the file; others: of what is made
	Name       string            `toml:"name"`     // check: a pattern of path.Match
	Digest     string            `toml:"digest"`   // check: "sha256:..." with variables; checksum, verify: an algorithm
	Partner    string            `toml:"partner"`
	Rule       string            `toml:"rule"`
	Info       string            `toml:"info"`
	Wait       bool              `toml:"wait"`
	Delay      Duration          `toml:"delay"`    // reschedule
	Codes      []string          `toml:"codes"`    // reschedule: kinds of failure it is for; none: all
	Attempts   int               `toml:"attempts"` // reschedule: how often, default DefaultReschedules; http, mail: tries
	Windows    []quantity.Window `toml:"windows"`  // reschedule: when the request may be due
	Mode       string            `toml:"mode"`     // chmod: octal
	MinAge     Duration          `toml:"min_age"`  // check, wait: since it was last written to
	FreeSpace  Size              `toml:"free_space"`
	Paths      []string          `toml:"paths"`  // check: patterns of whole names
	Remove     bool              `toml:"remove"` // what the result was made of
	Format     string            `toml:"format"` // of archives and compressed files
	MaxFiles   int               `toml:"max_files"`
	MaxRatio   int               `toml:"max_ratio"`
	Decode     string            `toml:"decode"` // transcode: charset of the file
	Encode     string            `toml:"encode"` // transcode: charset of the result
	Newline    string            `toml:"newline"`
	Recipients string            `toml:"recipients"` // "file:/PATH", as the four below
	Identities string            `toml:"identities"`
	Secret     string            `toml:"secret"`
	CA         string            `toml:"ca"`
	URL        string            `toml:"url"`
	User       string            `toml:"user"`
	Subject    string            `toml:"subject"`
	Required   bool              `toml:"required"` // http, mail: the request fails without it
}

// files are the files of this host that the table names, as "file:/PATH".
func files(settings ...string) (paths []string) {
	for _, text := range settings {
		if path, ok := strings.CutPrefix(text, filePrefix); ok {
			paths = append(paths, path)
		}
	}
	return paths
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

// Size is a number of bytes, as text, "10GB", or as the number itself.
type Size int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(b []byte) error {
	v, err := quantity.Size.Parse(string(b))
	*s = Size(v)
	return err
}

// Kind is a kind of task.
type Kind struct {
	Make  Maker
	Keys  []string      // of its table that it looks at, beside task and timeout
	Limit time.Duration // unless the table says; 0: DefaultTimeout
	Other bool          // after it the request's file may have another content
}

// Maker makes a task from its table, or says what is wrong with that.
type Maker func(*Table) (Task, error)

// Catalogue is kinds of tasks by name.
type Catalogue map[string]Kind

// Standard is the tasks of this package.
func Standard() Catalogue {
	return Catalogue{
		"log":        {Make: newLog, Keys: []string{"text", "level"}},
		"exec":       {Make: newExec, Keys: []string{"argv", "warning"}, Other: true},
		"move":       {Make: newMove, Keys: []string{"to"}},
		"rename":     {Make: newRename, Keys: []string{"to"}},
		"copy":       {Make: newCopy, Keys: []string{"to"}},
		"link":       {Make: newLink, Keys: []string{"to"}},
		"delete":     {Make: newDelete, Keys: []string{"path"}},
		"mkdir":      {Make: newMkdir, Keys: []string{"path"}},
		"chmod":      {Make: newChmod, Keys: []string{"mode", "path"}},
		"check":      {Make: newCheck, Keys: []string{"min_size", "max_size", "name", "paths", "digest", "min_age", "free_space"}},
		"wait":       {Make: newWait, Keys: []string{"path", "min_age"}},
		"checksum":   {Make: newChecksum, Keys: []string{"to", "digest"}},
		"verify":     {Make: newVerify, Keys: []string{"path", "digest"}},
		"snapshot":   {Make: newSnapshot, Keys: []string{"to"}},
		"bridge":     {Make: newBridge, Keys: []string{"to", "from"}, Other: true},
		"transfer":   {Make: newTransfer, Keys: []string{"partner", "rule", "info", "wait"}},
		"reschedule": {Make: newReschedule, Keys: []string{"delay", "windows", "codes", "attempts"}},
	}
}

// DefaultTimeout ends a task that has none of its own.
const DefaultTimeout = time.Hour

// A Step is a task of a list, with its limit.
type Step struct {
	Name    string
	Task    Task
	Timeout time.Duration
	Files   []string // of this host that it reads
	Secrets []string // the same, which nobody else may read
	Other   bool     // after it the request's file may have another content
	Program string   // of this host that it runs; "": none
}

// Make makes the steps of a list. The error names the first that is wrong.
func Make(all Catalogue, tables []Table) ([]Step, error) {
	const op = "read tasks"
	if len(tables) > 255 {
		return nil, fault.New(op, fault.Invalid, "%d tasks in one list: at most 255", len(tables))
	}
	var steps []Step
	for i := range tables {
		t := &tables[i]
		kind, ok := all[t.Task]
		if !ok {
			return nil, fault.New(op, fault.Invalid, "task %d is %q, which is not known", i+1, t.Task)
		}
		made, err := kind.Make(t)
		if err != nil {
			return nil, fault.New(op, fault.Invalid, "task %d, %s: %w", i+1, t.Task, err)
		}
		program := ""
		if len(t.Argv) > 0 {
			program = t.Argv[0]
		}
		limit := cmp.Or(time.Duration(t.Timeout), kind.Limit, DefaultTimeout)
		steps = append(steps, Step{Name: t.Task, Task: made, Timeout: limit, Files: files(t.Recipients, t.CA), Secrets: files(t.Identities, t.Secret), Program: program, Other: kind.Other})
	}
	return steps, nil
}

// ErrTimeout is in the error of a step that was ended at its limit. To run it again
// is an operator's decision: it was begun, and nobody knows what it has done.
var ErrTimeout = errors.New("raise its timeout, or look at what it waits for")

// ErrVerdict is in the error of a task that has looked at all it needs and says no: whoever
// looks again finds the same, so that no other attempt is made.
var ErrVerdict = errors.New("no other attempt changes that")

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
