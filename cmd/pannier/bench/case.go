// Package bench measures how fast files and calls travel, each end in a
// process of its own.
//
// A Case is one way to travel. The parent process (Transfer, RPC, Mixed) starts
// two copies of its own program for every run, one end each (End), and tells
// them by lines on stdin what to do; so the processor time and the peak memory
// of one run of one end are those of one process.
package bench

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// A Case is one way for files or calls to travel. It holds no state: Serve and
// Connect run in different processes.
type Case interface {
	// Name is what the case is called on the command line and in results.
	Name() string
	// Serve is the end that listens. It reports its address once, as
	// "host:port" or "scheme://host:port", and returns soon after ctx is over.
	// What it answers for a file is said only when Job.Target(i) is complete.
	Serve(ctx context.Context, job Job, ready func(addr string)) error
	// Connect is the other end. It returns when a call or transfer could start
	// without waiting for a handshake. ctx is over soon after it returns.
	Connect(ctx context.Context, job Job, addr string) (Client, error)
}

// A Client is the connected end of a Case; what it can do it shows by
// implementing Mover, Caller or both.
type Client interface {
	Close() error
}

// A Mover is a Client that can move a file. Moves may run concurrently.
type Mover interface {
	// Move sends Job.Source to the other end, to become Job.Target(i), and
	// returns when the other end has said that the target is complete.
	Move(ctx context.Context, i int) error
}

// A Caller is a Client that can make a small call.
type Caller interface {
	Call(ctx context.Context) error
}

// Job is everything one end has to know.
type Job struct {
	Role       string `json:"role"`           // RoleServe, ...
	Bench      string `json:"bench"`          // whose cases: BenchTransfer, ...
	Case       string `json:"case"`           // Case.Name
	Addr       string `json:"addr,omitempty"` // of the listening end; RoleConnect only
	Dir        string `json:"dir"`            // the workspace, the same at both ends
	Size       int64  `json:"size"`           // bytes of Source
	Concurrent int    `json:"concurrent"`     // files moved at once, at least 1
	Lanes      int    `json:"lanes"`          // bulk connections of a session; 0: as the session decides

	// BenchRelay only: where the way leads to, as host:port.
	To    string `json:"to,omitempty"`     // connections
	ToUDP string `json:"to_udp,omitempty"` // datagrams
}

// Roles of an end.
const (
	RoleServe   = "serve"
	RoleConnect = "connect"
	RoleExit    = "exit"  // BenchRelay: the end of a way that connects to the server
	RoleEntry   = "entry" // BenchRelay: the end that the client connects to
)

// Benchmarks, as named on the command line.
const (
	BenchTransfer = "transfer"
	BenchRPC      = "rpc"
	BenchMixed    = "mixed"
	BenchRelay    = "relay"
)

// Source is the file that is sent.
func (j Job) Source() string { return filepath.Join(j.Dir, "source") }

// Target is the i-th file that is written. It does not exist before.
func (j Job) Target(i int) string { return filepath.Join(j.Dir, "target-"+strconv.Itoa(i)) }

// Cases lists the cases of a benchmark in the order in which they run.
func Cases(bench string) []Case {
	switch bench {
	case BenchTransfer:
		return append(baselines(), sessionTransfers()...)
	case BenchRPC:
		return append(calls(), sessionCalls()...)
	case BenchMixed:
		return append([]Case{chunk64k, chunk1m}, sessionMixes()...)
	}
	return nil
}

// Names lists the names of cases.
func Names[C named](cases []C) []string {
	names := make([]string, len(cases))
	for i, c := range cases {
		names[i] = c.Name()
	}
	return names
}

// Select returns the cases of a benchmark with the given names, in the order
// of the names; all of them for no names. Unknown names are fault.Invalid.
func Select(bench string, names []string) ([]Case, error) {
	all := Cases(bench)
	if len(names) == 0 {
		return all, nil
	}
	chosen := make([]Case, 0, len(names))
	for _, name := range names {
		i := slices.IndexFunc(all, func(c Case) bool { return c.Name() == name })
		if i < 0 {
			return nil, fault.New("choose cases", fault.Invalid, "no case %q in %q; use one of %s",
				name, bench, strings.Join(Names(all), ", "))
		}
		if slices.Contains(Names(chosen), name) {
			return nil, fault.New("choose cases", fault.Invalid, "case %q is named twice", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}
