package host

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	gorunner "github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/channel"
	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// process is one life of a plugin, ready for calls.
type process struct {
	cfg         Config
	bridge      bridgepb.BridgeClient
	description *bridgepb.DescribeReply
	sum         string        // of the program, hexadecimal; "" in process
	pid         int           // 0 in process
	fds         *net.UnixConn // nil: no descriptors
	began       time.Time
	gone        chan struct{}         // closed when it has ended, however
	end         func(context.Context) // bounded; the context ends the waiting for sessions
	kill        func()
	health      grpc_health_v1.HealthClient // nil in process

	turn   sync.Mutex // of fds
	number uint64     // of the last channel

	stopping atomic.Bool // its end is no crash

	tells bool // it is a node, whose errors say what anybody may read
}

// socketRoom is what go-plugin adds to the directory: "/plugin-dir4294967295/plugin4294967295".
const socketRoom = 1 + 10 + 10 + 1 + 6 + 10

// maxSocket is the most bytes that the path of a unix socket has: 104 with its end on some systems.
const maxSocket = 103

// start starts a process and asks what it is.
func start(cfg Config) (*process, error) {
	dir := cfg.Dir
	if dir == "" { // systemd's, of which nothing is cleaned up while the service runs
		dir, _, _ = strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	}
	if dir == "" {
		dir = os.TempDir()
	}
	if len(dir)+socketRoom > maxSocket {
		return nil, fault.Wrap("start plugin "+cfg.Name, dir, fault.New("make socket", fault.TooLong,
			"the directory's name has %d bytes, and at most %d leave room for a socket's", len(dir), maxSocket-socketRoom).Advise("set TMPDIR, or the directory for plugins, to a shorter one"))
	}
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return nil, fault.Wrap("start plugin "+cfg.Name, dir, fault.New("make socket", fault.NotFound, "there is no such directory").Advise("make it, or set TMPDIR to one that there is"))
	}
	program, sum, err := open(cfg)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	ours, certificate, err := certified()
	if err != nil {
		return nil, fault.Wrap("start plugin", cfg.Name, err)
	}
	r := &runner{cfg: cfg, file: program, said: &said{log: cfg.Log}, reaped: make(chan struct{}), exited: make(chan struct{})}
	out, errs := synced(r.said), synced(r.said)
	r.synced = []io.Closer{out, errs}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  plugins.Handshake(),
		Plugins:          plugin.PluginSet{plugins.ServiceName: plugins.Served(nil)},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		TLSConfig:        ours,
		SkipHostEnv:      true,
		GRPCDialOptions:  append(plugins.DialOptions(), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage))),
		StartTimeout:     cfg.Start,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: dir},
		Logger:           hclog.NewNullLogger(),
		SyncStdout:       out,
		SyncStderr:       errs,
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, dir string) (gorunner.Runner, error) {
			r.env, r.dir = append(cmd.Env, certificate), dir
			return r, nil
		},
	})
	began := time.Now()
	late := time.AfterFunc(cfg.Start, func() { _ = r.killIfStarted() })
	p, err := connect(cfg, client, r)
	is, unread := sum()
	if err == nil {
		err = fault.Wrap("start plugin "+cfg.Name, cfg.Path, unread)
	}
	if !late.Stop() && err != nil {
		err = fault.New("start plugin "+cfg.Name, fault.DeadPeer, "it has not answered within %v%s", cfg.Start, fault.Shown(r.lastWords()))
	}
	if err != nil {
		_ = r.killIfStarted()
		tidy(client, r)
		return nil, err
	}
	p.began, p.sum = began, is
	p.end = func(ctx context.Context) { p.stop(ctx, client, r) }
	p.kill = func() { _ = r.Kill(context.Background()) }
	go func() {
		<-r.exited
		close(p.gone)
		if !p.stopping.Load() {
			tidy(client, r)
		}
	}()
	go p.watch()
	cfg.Log.Info("plugin started", "pid", p.pid, "version", p.description.GetPluginVersion(), "sha256", p.sum, "after", time.Since(began))
	return p, nil
}

// connect has go-plugin start the process, and makes the first call.
func connect(cfg Config, client *plugin.Client, r *runner) (*process, error) {
	if _, err := client.Start(); err != nil {
		if _, ours := err.(*fault.Error); ours {
			return nil, err
		}
		<-waited(r)
		return nil, fault.New("start plugin "+cfg.Name, fault.Protocol, "%w%s", err, fault.Shown(r.lastWords())).
			Advise("a plugin's program calls plugins.Serve and writes nothing to its standard output before")
	}
	protocol, err := client.Client()
	if err != nil {
		return nil, fault.New("start plugin "+cfg.Name, fault.Protocol, "%w", err)
	}
	g := protocol.(*plugin.GRPCClient) // AllowedProtocols has no other
	p := &process{cfg: cfg, bridge: bridgepb.NewBridgeClient(g.Conn), health: grpc_health_v1.NewHealthClient(g.Conn), pid: r.cmd.Process.Pid,
		fds: r.fds, gone: make(chan struct{})}
	return p, p.describe()
}

// waited is closed when the process has ended, or soon.
func waited(r *runner) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if r.cmd == nil {
			return
		}
		select {
		case <-r.exited:
		case <-time.After(time.Second):
		}
	}()
	return done
}

// maxMessage is the most bytes of a message of a plugin, whose own are far smaller: go-plugin's
// limit is 2 GiB.
const maxMessage = 4 << 20

// describe asks what the plugin is, and whether it can be spoken with.
func (p *process) describe() error {
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Start)
	defer cancel()
	d, err := p.bridge.Describe(ctx, &bridgepb.DescribeRequest{Version: plugins.ContractVersion})
	if err != nil {
		return fault.Wrap("describe plugin", p.cfg.Name, p.failed(ctx, err))
	}
	if d.GetVersion() != plugins.ContractVersion {
		return fault.New("describe plugin "+p.cfg.Name, fault.Unsupported, "it speaks version %d of the contract, this host version %d", d.GetVersion(), plugins.ContractVersion).
			Advise("update the older of the two")
	}
	p.description = d
	return nil
}

// killIfStarted is Kill where there may be nothing yet.
func (r *runner) killIfStarted() error {
	if r.cmd == nil {
		return nil
	}
	return r.Kill(context.Background())
}

// lastWords is what a process said that did not start.
func (r *runner) lastWords() string {
	if s := r.said.tail(); s != "" {
		return "; it said: " + s
	}
	return ""
}

// tidy has go-plugin forget a process that has ended, and remove its directory.
func tidy(client *plugin.Client, r *runner) {
	if r.cmd != nil {
		<-r.exited
		r.endLease()
	}
	done := make(chan struct{})
	go func() { defer close(done); client.Kill() }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
	for _, s := range r.synced {
		_ = s.Close()
	}
	if r.dir != "" {
		_ = os.RemoveAll(r.dir)
	}
}

// stop ends a process within the times of its configuration.
func (p *process) stop(ctx context.Context, client *plugin.Client, r *runner) {
	p.stopping.Store(true)
	drain, cancel := context.WithTimeout(ctx, p.cfg.Drain)
	if _, err := p.bridge.Drain(drain, &bridgepb.DrainRequest{}); err != nil && !p.isGone() {
		p.cfg.Log.Warn("plugin stopped with sessions open", "error", p.failed(drain, err))
	}
	cancel()
	r.endLease()
	select {
	case <-p.gone:
	case <-time.After(p.cfg.Grace):
		p.cfg.Log.Warn("plugin did not end by itself, killed", "pid", p.pid, "grace", p.cfg.Grace)
		p.kill()
	}
	tidy(client, r)
}

// watch asks now and then whether the process answers, and kills one that does not:
// whoever waits for it learns that it is gone. When it is this process that stood still, as one that
// was stopped or whose host was, nothing is known of the other, and it is asked again.
func (p *process) watch() {
	tick := time.NewTicker(p.cfg.Answer)
	defer tick.Stop()
	for {
		select {
		case <-p.gone:
			return
		case <-tick.C:
		}
		asked := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Answer)
		_, err := p.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
		late := ctx.Err() != nil
		cancel()
		if time.Since(asked) > p.cfg.Answer*3/2 {
			continue
		}
		if err != nil && late && !p.isGone() && !p.stopping.Load() {
			p.cfg.Log.Error("plugin does not answer, killed", "pid", p.pid, "within", p.cfg.Answer)
			p.kill()
			return
		}
	}
}

func (p *process) isGone() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// channels reports whether bytes go over descriptors.
func (p *process) channels() bool {
	return p.description.GetChannels() && p.fds != nil && !p.cfg.Messages
}

// mode is how the bytes of a channel come and go: what the other end can change at any time, this one
// copies.
func (p *process) mode() channel.Mode {
	if p.description.GetMemory() && channel.Shares {
		return channel.Offer
	}
	return channel.Socket
}

// bufferSize is what the socket of a channel has: a block fits.
const bufferSize = 512 << 10

// channel makes a channel and sends its other end to the plugin.
func (p *process) channel() (mine *net.UnixConn, number uint64, err error) {
	f, other, err := pair(unix.SOCK_STREAM)
	if err != nil {
		return nil, 0, fault.Wrap("make channel", p.cfg.Name, err)
	}
	defer other.Close()
	for _, end := range []*os.File{f, other} {
		_ = unix.SetsockoptInt(int(end.Fd()), unix.SOL_SOCKET, unix.SO_SNDBUF, bufferSize)
	}
	if mine, err = unixConn(f); err != nil {
		return nil, 0, fault.Wrap("make channel", p.cfg.Name, err)
	}
	if number, err = p.hand(other); err != nil {
		_ = mine.Close()
		return nil, 0, err
	}
	return mine, number, nil
}

// inProcess is a process that is none: the driver runs here, and everything else is as
// if it did not.
func inProcess(cfg Config, d plugins.Driver) (*process, error) {
	ends := [2][2]*net.UnixConn{}
	for i, kind := range []int{unix.SOCK_SEQPACKET, unix.SOCK_STREAM} {
		a, b, err := pair(kind)
		if err != nil {
			return nil, fault.Wrap("start plugin", cfg.Name, err)
		}
		for j, f := range []*os.File{a, b} {
			if ends[i][j], err = unixConn(f); err != nil {
				return nil, fault.Wrap("start plugin", cfg.Name, err)
			}
		}
	}
	service := plugins.NewService(d, ends[0][1])
	service.ShareMemory()
	service.SetDial(Node)
	server := grpc.NewServer(service.Options()...)
	bridgepb.RegisterBridgeServer(server, service)
	conn, err := connectTo(server, ends[1])
	if err != nil {
		return nil, fault.Wrap("start plugin", cfg.Name, err)
	}
	p := &process{cfg: cfg, bridge: bridgepb.NewBridgeClient(conn), fds: ends[0][0], began: time.Now(), gone: make(chan struct{})}
	p.kill = sync.OnceFunc(func() {
		server.Stop()
		_, _, _ = conn.Close(), ends[0][0].Close(), ends[0][1].Close()
		close(p.gone)
	})
	p.end = func(ctx context.Context) {
		p.stopping.Store(true)
		ctx, cancel := context.WithTimeout(ctx, cfg.Drain)
		_, _ = p.bridge.Drain(ctx, &bridgepb.DrainRequest{})
		cancel()
		p.kill()
	}
	if err := p.describe(); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}
