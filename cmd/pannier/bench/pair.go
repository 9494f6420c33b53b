package bench

import (
	"context"
	"errors"
	"io"

	"github.com/pannier/pannier/spec/fault"
)

// pair is the two ends of one run, and the emulated link between them if any.
type pair struct {
	server, client *process
	emulator       *emulator
}

// measured is what one order cost.
type measured struct {
	reply
	client, server Usage
}

// startPair starts the listening end, then the link, then the connected end.
func startPair(ctx context.Context, p Program, job Job, link Link, messages io.Writer) (_ *pair, err error) {
	ends := &pair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, ends.close())
		}
	}()
	job.Role = RoleServe
	server, first, err := startProcess(ctx, p, job, messages)
	if err != nil {
		return nil, err
	}
	ends.server = server
	if first.Addr == "" {
		return nil, fault.New("start "+server.name, fault.Protocol, "no address in the answer")
	}
	job.Role, job.Addr = RoleConnect, first.Addr
	if link.Emulated() {
		if ends.emulator, job.Addr, err = startEmulator(link, first.Addr); err != nil {
			return nil, err
		}
	}
	ends.client, _, err = startProcess(ctx, p, job, messages)
	if err != nil {
		return nil, err
	}
	return ends, nil
}

// measure carries out one order between two readings of both ends' usage.
func (p *pair) measure(o order) (m measured, err error) {
	client, err1 := p.client.usage()
	server, err2 := p.server.usage()
	if err := errors.Join(err1, err2); err != nil {
		return m, err
	}
	if m.reply, err = p.client.ask(o); err != nil {
		return m, err
	}
	m.client, err1 = p.client.usage()
	m.server, err2 = p.server.usage()
	m.client, m.server = m.client.since(client), m.server.since(server)
	return m, errors.Join(err1, err2)
}

// close ends the client first, so that the server sees it leave.
func (p *pair) close() error {
	var errs []error
	if p.client != nil {
		errs = append(errs, p.client.close())
	}
	if p.emulator != nil {
		errs = append(errs, p.emulator.close())
	}
	if p.server != nil {
		errs = append(errs, p.server.close())
	}
	return errors.Join(errs...)
}

// withPair runs do between the start and the end of two ends.
func withPair[T any](ctx context.Context, cfg Config, job Job, link Link, do func(*pair) (T, error)) (T, error) {
	ends, err := startPair(ctx, cfg.Program, job, link, cfg.Progress)
	if err != nil {
		var none T
		return none, err
	}
	out, err := do(ends)
	return out, errors.Join(err, ends.close())
}
