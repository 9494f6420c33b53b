package bench

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/spec/fault"
)

// manyConns is how many connections the relays of a benchmark may have, and begin a
// second. Everything else is as a node has it by default.
const manyConns = 20_000

// kindTransfer is of the block streams that relays share the session with.
const kindTransfer = "bench.transfer"

// Names of the two ends to each other.
const (
	nameExit  = "exit"
	nameEntry = "entry"
)

func relayFlow() flow.Config { return flow.Config{MaxStreams: 2 * manyConns} }

// wayIdentity is the workspace's certificate, for both ends; none over tcp.
func wayIdentity(job Job, scheme string) (carrier.Options, error) {
	id, pins, err := sessionCase{scheme: scheme}.identity(job)
	return carrier.Options{Identity: id, Pins: pins, Protocols: []string{carrier.ProtocolLane}}, err
}

// relayExit is a node that lets everything through to the server, and takes transfers.
func relayExit(scheme string) func(context.Context, Job) (*post, error) {
	return func(ctx context.Context, job Job) (_ *post, err error) {
		var ends closers
		defer func() {
			if err != nil {
				err = errors.Join(err, ends.close())
			}
		}()
		hub, err := relay.New(relay.Config{Policy: []relay.Allow{{
			Partner: nameEntry, Relay: "*", Dial: []string{"tcp://" + job.To, "udp://" + job.ToUDP},
			Limits: relay.Limits{Conns: manyConns, Opens: manyConns},
		}}})
		if err != nil {
			return nil, err
		}
		ends.add(hub.Close)
		acceptor, err := flow.NewAcceptor(relayFlow())
		if err != nil {
			return nil, err
		}
		ends.add(acceptor.Close)
		o, err := wayIdentity(job, scheme)
		if err != nil {
			return nil, err
		}
		l, err := carrier.Listen(scheme+"://127.0.0.1:0", o)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		ends.add(func() error { cancel(); err := l.Close(); wg.Wait(); return err })
		wg.Go(func() { _ = l.Serve(acceptor.Handle, func(c net.Conn) { _ = c.Close() }) })
		wg.Go(func() {
			for {
				s, err := acceptor.Accept(ctx)
				if err != nil {
					return
				}
				wg.Go(func() { serveSession(ctx, &wg, hub, s) })
			}
		})
		return &post{addr: l.Address().String(), obey: func(o order) reply { return obeyRelay(hub, nil, o) }, close: ends.close}, nil
	}
}

// serveSession takes the streams of a session until it is over.
func serveSession(ctx context.Context, wg *sync.WaitGroup, hub *relay.Hub, s *flow.Session) {
	hub.Attach(nameEntry, s)
	for {
		in, err := s.AcceptStream(ctx)
		switch {
		case err != nil:
			return
		case in.Kind == kindTransfer && in.Blocks:
			wg.Go(func() { takeTransfer(ctx, in) })
		default:
			hub.Handle(nameEntry, s, in)
		}
	}
}

// takeTransfer reads a transfer and keeps nothing of it.
func takeTransfer(ctx context.Context, in *flow.Incoming) {
	b, err := in.AcceptBlocks(flow.AcceptBlocks{Start: -1})
	for err == nil {
		var blk *flow.Block
		if blk, err = b.Recv(ctx); err == nil {
			blk.Release()
		}
	}
}

// relayEntry is a node with two relays, one of connections and one of datagrams.
func relayEntry(scheme string) func(context.Context, Job) (*post, error) {
	return func(ctx context.Context, job Job) (_ *post, err error) {
		var ends closers
		defer func() {
			if err != nil {
				err = errors.Join(err, ends.close())
			}
		}()
		o, err := wayIdentity(job, scheme)
		if err != nil {
			return nil, err
		}
		d, err := carrier.NewDialer(job.Addr, o)
		if err != nil {
			return nil, err
		}
		s, err := flow.Connect(ctx, d, relayFlow())
		if err != nil {
			return nil, err
		}
		var wg sync.WaitGroup
		ends.add(func() error { err := s.Close(); wg.Wait(); return err })
		hub, err := relay.New(relay.Config{})
		if err != nil {
			return nil, err
		}
		ends.add(hub.Close)
		hub.Attach(nameExit, s)
		wg.Go(func() { _ = hub.Accept(nameExit, s) })
		var at [2]string
		for i, scheme := range []string{"tcp", "udp"} {
			accept, err := relay.ParseAccept(scheme + "://127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			to, err := relay.ParseTo(scheme + "://" + [2]string{job.To, job.ToUDP}[i])
			if err != nil {
				return nil, err
			}
			if err := hub.Add(relay.Relay{Name: scheme, Partner: nameExit, Accept: []relay.Endpoint{accept}, To: to,
				Limits: relay.Limits{Conns: manyConns, Opens: manyConns}}); err != nil {
				return nil, err
			}
			_, at[i], _ = strings.Cut(hub.Stats()[i].Bound[0], "://")
		}
		t := &transferring{s: s}
		ends.add(func() error { t.stop(); return nil })
		return &post{addr: at[0], udp: at[1], obey: func(o order) reply { return obeyRelay(hub, t, o) }, close: ends.close}, nil
	}
}

// obeyRelay carries out an order at one end.
func obeyRelay(hub *relay.Hub, t *transferring, o order) reply {
	switch {
	case o.Verb == verbDropped:
		var n int64
		for _, s := range hub.Stats() {
			n += s.Dropped
		}
		return reply{Counts: &counts{Lost: n}}
	case o.Verb == verbTransfer && t != nil && o.Count == 0:
		return t.stop()
	case o.Verb == verbTransfer && t != nil:
		return t.start()
	}
	return answerUsage(o)
}

// transferring sends blocks on a session for as long as it is told to.
type transferring struct {
	s      *flow.Session
	cancel context.CancelFunc
	done   chan reply
}

func (t *transferring) start() reply {
	ctx, cancel := context.WithCancel(context.Background())
	b, err := t.s.OpenBlocks(ctx, flow.Open{Kind: kindTransfer, Send: true})
	if err != nil {
		cancel()
		return failure(err)
	}
	t.cancel, t.done = cancel, make(chan reply, 1)
	go func() {
		var err error
		for err == nil {
			var blk *flow.Block
			if blk, err = b.Next(ctx); err == nil {
				err = b.Send(ctx, blk, len(blk.Data))
			}
		}
		stats := b.Stats()
		b.Reset(fault.New("transfer", fault.Canceled, "the benchmark is over"))
		if ctx.Err() == nil {
			t.done <- failure(err)
			return
		}
		t.done <- reply{Bytes: stats.Bytes}
	}()
	return reply{}
}

func (t *transferring) stop() reply {
	if t.cancel == nil {
		return reply{}
	}
	t.cancel()
	t.cancel = nil
	return <-t.done
}

// closers are undone in the reverse order.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) close() error {
	var errs []error
	for i := len(*c) - 1; i >= 0; i-- {
		errs = append(errs, (*c)[i]())
	}
	*c = nil
	return errors.Join(errs...)
}
