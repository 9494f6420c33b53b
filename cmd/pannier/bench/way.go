package bench

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"

	"github.com/pannier/pannier/engine/node/heap"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// way is one way for connections to get from a client to a server. Each of its ends
// is a process of its own, as the client and the server are.
//
//	client --> entry ==> exit --> server
type way struct {
	name string
	// exit and entry make the ends; nil: there is none, the client connects to the
	// server. Job.Addr is of the exit, for the entry; Job.To and ToUDP are of the server.
	exit, entry func(context.Context, Job) (*post, error)
	datagrams   bool     // it carries them
	transfers   bool     // the entry can have a transfer on the session
	each        bool     // it has a process for each connection: no thousands of them
	needs       []string // programs of the system
}

// ways are all, in the order in which they run.
func ways() []way {
	return []way{
		{name: "direct", datagrams: true},
		{name: "bare", exit: bareExit, entry: bareEntry},
		{name: "socat", exit: socatExit, entry: socatEntry, each: true, needs: []string{"socat"}},
		{name: "ssh", exit: sshExit, entry: sshEntry, needs: []string{"sshd", "ssh", "ssh-keygen"}},
		{name: "yamux", exit: muxExit(yamuxServer), entry: muxEntry(yamuxClient)},
		{name: "smux", exit: muxExit(smuxServer), entry: muxEntry(smuxClient)},
		{name: "relay-tcp", exit: relayExit(carrier.TCP), entry: relayEntry(carrier.TCP), datagrams: true, transfers: true},
		{name: "relay-tls", exit: relayExit(carrier.TLS), entry: relayEntry(carrier.TLS), datagrams: true, transfers: true},
	}
}

// Ways are the names of all.
func Ways() []string {
	var names []string
	for _, w := range ways() {
		names = append(names, w.name)
	}
	return names
}

func wayNamed(name string) (way, error) {
	i := slices.Index(Ways(), name)
	if i < 0 {
		return way{}, fault.New("choose cases", fault.Invalid, "no case %q; use one of %s", name, strings.Join(Ways(), ", "))
	}
	return ways()[i], nil
}

// missing is the first program that the system does not have.
func (w way) missing() string {
	for _, p := range w.needs {
		if program(p) == "" {
			return p
		}
	}
	return ""
}

// program is the path of one of the system's; "" without it. sshd is where ordinary
// users do not look.
func program(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		return ""
	}
	return path
}

// post is what one process does in a way.
type post struct {
	addr, udp string
	usage     func() (Usage, error) // default: of this process
	obey      func(order) reply     // default: no order is known
	close     func() error
}

// wayEnd is one process: a post until in ends.
func wayEnd(ctx context.Context, job Job, lines lineReader, out io.Writer) error {
	p, err := takePost(ctx, job)
	if err != nil {
		return writeLine(out, failure(err))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go heap.Keep(ctx) // as a node does
	err = writeLine(out, reply{Addr: p.addr, AddrUDP: p.udp})
	if err == nil {
		err = answer(lines, out, func(o order) reply {
			switch {
			case o.Count < 0 || o.Count > maxCount || o.PerSecond < 0:
				return failure(fault.New("obey", fault.Protocol, "count is %d, a second %d", o.Count, o.PerSecond))
			case o.Verb == verbUsage && p.usage != nil:
				u, err := p.usage()
				if err != nil {
					return failure(err)
				}
				return reply{Usage: &u}
			case o.Verb == verbUsage || p.obey == nil:
				return answerUsage(o)
			}
			return p.obey(o)
		})
	}
	return errors.Join(err, p.close())
}

func takePost(ctx context.Context, job Job) (*post, error) {
	w, err := wayNamed(job.Case)
	if err != nil {
		return nil, err
	}
	switch {
	case job.Role == RoleServe:
		return wayServer()
	case job.Role == RoleConnect:
		return newWayClient(job), nil
	case job.Role == RoleExit && w.exit != nil:
		return w.exit(ctx, job)
	case job.Role == RoleEntry && w.entry != nil:
		return w.entry(ctx, job)
	}
	return nil, fault.New("read job", fault.Protocol, "no role %q in case %s", job.Role, w.name)
}
