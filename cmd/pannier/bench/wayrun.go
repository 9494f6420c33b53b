package bench

import (
	"context"
	"errors"
	"io"

	"github.com/pannier/pannier/spec/fault"
)

// wayRun is the processes of one way: a server, a client, and in between the exit and the
// entry, if the way has ends.
type wayRun struct {
	way                         way
	server, exit, entry, client *process
}

// startWay starts them from the far end on.
func startWay(ctx context.Context, p Program, w way, job Job, messages io.Writer) (_ *wayRun, err error) {
	r := &wayRun{way: w}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	job.Bench, job.Case, job.Role = BenchRelay, w.name, RoleServe
	var first reply
	if r.server, first, err = startProcess(ctx, p, job, messages); err != nil {
		return nil, err
	}
	job.To, job.ToUDP, job.Addr = first.Addr, first.AddrUDP, first.Addr
	if w.exit != nil {
		job.Role = RoleExit
		if r.exit, first, err = startProcess(ctx, p, job, messages); err != nil {
			return nil, err
		}
		job.Role, job.Addr = RoleEntry, first.Addr
		if r.entry, first, err = startProcess(ctx, p, job, messages); err != nil {
			return nil, err
		}
		job.Addr, job.ToUDP = first.Addr, first.AddrUDP
	}
	job.Role = RoleConnect
	r.client, _, err = startProcess(ctx, p, job, messages)
	return r, err
}

// all are the processes, the near end first.
func (r *wayRun) all() (all []*process) {
	for _, p := range []*process{r.client, r.entry, r.exit, r.server} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

// cpu is the processor time of all of them together, in seconds.
func (r *wayRun) cpu() (cpu float64, err error) {
	for _, p := range r.all() {
		u, err := p.usage()
		if err != nil {
			return 0, err
		}
		cpu += u.CPU()
	}
	return cpu, nil
}

// measure is what an order to the client brings, and its processor time.
func (r *wayRun) measure(o order) (m reply, cpu float64, err error) {
	before, err := r.cpu()
	if err != nil {
		return m, 0, err
	}
	if m, err = r.client.ask(o); err != nil {
		return m, 0, err
	}
	if m.Latency == nil {
		m.Latency = &Latency{}
	}
	if m.Counts == nil {
		m.Counts = &counts{}
	}
	after, err := r.cpu()
	return m, after - before, err
}

// counted asks a process for counts.
func counted(p *process, verb string) (counts, error) {
	r, err := p.ask(order{Verb: verb})
	if err != nil {
		return counts{}, err
	}
	if r.Counts == nil {
		return counts{}, fault.New("ask "+p.name, fault.Protocol, "no counts in the answer")
	}
	return *r.Counts, nil
}

// close ends the near end first, so that each sees the one before it leave.
func (r *wayRun) close() error {
	var errs []error
	for _, p := range r.all() {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}
