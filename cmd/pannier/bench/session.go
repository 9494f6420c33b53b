package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"

	"github.com/pannier/pannier/cmd/pannier/benchpb"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// sessionCase is Pannier: a file or payload as the side effect of a call.
type sessionCase struct {
	name   string
	scheme string // of the carrier: carrier.TCP, TLS or Unix
	http2  bool   // no session underneath: effects take the gRPC stream road
	hash   sideeffect.Algorithm
	memory bool // source and target are memory of the processes, not files

	calls    bool // only calls, moves no files
	up, down int  // bytes of a payload that a call carries inline
}

// sessionTransfers are the transfers of Pannier.
func sessionTransfers() []Case {
	return []Case{
		sessionCase{name: "session-tcp", scheme: carrier.TCP},
		sessionCase{name: "session-tls", scheme: carrier.TLS},
		sessionCase{name: "session-unix", scheme: carrier.Unix},
		sessionCase{name: "session-tcp-memory", scheme: carrier.TCP, memory: true},
		sessionCase{name: "grpc-road", scheme: carrier.TCP, http2: true},
		sessionCase{name: "session-tls-sha256", scheme: carrier.TLS, hash: sideeffect.SHA256},
	}
}

// sessionCalls are the calls of Pannier.
func sessionCalls() []Case {
	return []Case{
		sessionCase{name: "rpc-no-effect", scheme: carrier.TCP, calls: true},
		sessionCase{name: "inline-16k-up", scheme: carrier.TCP, calls: true, up: inlinePayload},
		sessionCase{name: "inline-16k-down", scheme: carrier.TCP, calls: true, down: inlinePayload},
	}
}

// sessionMixes are the sessions that calls share with a transfer.
func sessionMixes() []Case {
	return []Case{
		sessionCase{name: "session-tcp", scheme: carrier.TCP},
		sessionCase{name: "session-tls", scheme: carrier.TLS},
		sessionCase{name: "session-unix", scheme: carrier.Unix},
	}
}

func (c sessionCase) Name() string { return c.name }

// road is the one that effects of this case must take: a figure under a wrong
// name is worse than none.
func (c sessionCase) road() sideeffect.Road {
	switch {
	case c.calls:
		return sideeffect.RoadInline
	case c.http2:
		return sideeffect.RoadStream
	}
	return sideeffect.RoadSession
}

// flow is the library's defaults but for the lanes.
func (c sessionCase) flow(job Job) flow.Config {
	return flow.Config{Lanes: job.Lanes, MaxLanes: job.Lanes}
}

// identity is the workspace's certificate; both ends have the same one, and
// its key is the only one either admits.
func (c sessionCase) identity(job Job) (*carrier.Identity, carrier.Pins, error) {
	if c.scheme != carrier.TLS {
		return nil, nil, nil
	}
	cert, err := tls.LoadX509KeyPair(certificatePath(job.Dir), keyPath(job.Dir))
	if err != nil {
		return nil, nil, fault.Wrap("load certificate", job.Dir, err)
	}
	id, err := carrier.IdentityOf(cert)
	if err != nil {
		return nil, nil, err
	}
	return id, carrier.Pins{id.Key()}, nil
}

func (c sessionCase) Serve(ctx context.Context, job Job, ready func(string)) (err error) {
	root, err := os.OpenRoot(job.Dir)
	if err != nil {
		return fault.Wrap("open workspace", job.Dir, err)
	}
	defer root.Close()
	id, pins, err := c.identity(job)
	if err != nil {
		return err
	}
	srv, err := rpc.NewServer(rpc.ServerConfig{Identity: id, Pins: pins, Flow: c.flow(job)})
	if err != nil {
		return err
	}
	store := &sessionServer{grpcServer: grpcServer{job: job}, c: c, root: root}
	store.prepare()
	benchpb.RegisterBenchServer(srv, store)
	addr, err := srv.Listen(c.address(job))
	if err != nil {
		srv.Stop()
		return err
	}
	ready(addr)
	defer context.AfterFunc(ctx, srv.Stop)()
	return errors.Join(srv.Serve(), store.keep())
}

func (c sessionCase) address(job Job) string {
	if c.scheme == carrier.Unix {
		return "unix://" + filepath.Join(job.Dir, "socket")
	}
	return c.scheme + "://127.0.0.1:0"
}

func (c sessionCase) Connect(ctx context.Context, job Job, addr string) (_ Client, err error) {
	id, pins, err := c.identity(job)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(job.Dir)
	if err != nil {
		return nil, fault.Wrap("open workspace", job.Dir, err)
	}
	client := &sessionClient{c: c, job: job, root: root, payload: make([]byte, c.up), room: make([]byte, c.down)}
	defer func() {
		if err != nil {
			err = errors.Join(err, client.Close())
		}
	}()
	if c.memory {
		if client.content, err = root.ReadFile(filepath.Base(job.Source())); err != nil {
			return nil, fault.Wrap("read source", "", err)
		}
	}
	client.cc, err = rpc.Dial(addr, rpc.ClientConfig{Identity: id, Pins: pins, HTTP2: c.http2, Flow: c.flow(job)})
	if err != nil {
		return nil, err
	}
	client.stub = benchpb.NewBenchClient(client.cc)
	if err := awaitReady(ctx, client.cc.GRPC()); err != nil {
		return nil, fault.Wrap("connect", addr, err)
	}
	if c.calls {
		return sessionCaller{client}, nil
	}
	return client, nil
}
