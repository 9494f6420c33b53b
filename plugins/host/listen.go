package host

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// A plugin that serves foreign clients asks the node what they may do, by the same
// contract, the other way round: here is the node's end of that, and the plugin's.

// outsideWindow is how many bytes of messages a listener's plugin sends in one call before somebody takes them.
const outsideWindow = 64 << 10

// Listen has the plugin serve foreign clients at l until ctx ends; node is asked what they
// may do. The socket is handed over, and stays open here. started is called when clients
// are served. It returns the reason that they are not any more, fault.Lost when the
// plugin has died: whoever calls does it again.
func (p *Plugin) Listen(ctx context.Context, l *net.TCPListener, options map[string]string, node plugins.Driver, started func()) error {
	run, err := p.running(ctx)
	if err != nil {
		return err
	}
	if !run.description.GetServer() || !run.channels() {
		return fault.New("listen", fault.Unsupported, "the plugin %s serves no foreign clients", p.cfg.Name)
	}
	f, err := l.File()
	if err != nil {
		return fault.Wrap("listen", l.Addr().String(), err)
	}
	defer f.Close()
	service, stop, ends, err := serveNode(node, p.cfg.Log)
	if err != nil {
		return err
	}
	defer func() {
		stop()
		service.End()
	}()
	request := &bridgepb.ListenRequest{Options: options}
	for _, d := range []struct {
		file   *os.File
		number *uint64
	}{{f, &request.Socket}, {ends[0], &request.Node}, {ends[1], &request.Descriptors}} {
		if *d.number, err = run.hand(d.file); err != nil {
			return err
		}
	}
	stream, err := run.bridge.Listen(ctx, request)
	if err == nil {
		_, err = stream.Recv()
	}
	if err == nil {
		started()
		_, err = stream.Recv()
	}
	if err == io.EOF {
		return fault.New("listen", fault.Protocol, "the plugin %s has stopped listening without a reason", p.cfg.Name)
	}
	return run.failed(ctx, err)
}

// serveNode serves a driver at one end of two pairs of sockets; ends are the others.
func serveNode(node plugins.Driver, log *slog.Logger) (service *plugins.Service, stop func(), ends [2]*os.File, err error) {
	var mine [2]*net.UnixConn
	closeAll := func() {
		for i := range mine {
			if mine[i] != nil {
				_ = mine[i].Close()
			}
			if ends[i] != nil {
				_ = ends[i].Close()
			}
		}
	}
	for i, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
		var f *os.File
		if f, ends[i], err = pair(kind); err == nil {
			mine[i], err = unixConn(f)
		}
		if err != nil {
			closeAll()
			return nil, nil, ends, fault.Wrap("listen", "", err)
		}
	}
	service = plugins.NewService(node, mine[1])
	service.SetOutside(log)
	// The plugin opens as many calls as it likes: what it sends and nobody takes is held here.
	server := grpc.NewServer(append(service.Options(), grpc.StaticStreamWindowSize(outsideWindow))...)
	bridgepb.RegisterBridgeServer(server, service)
	one := &single{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	one.conn <- mine[0]
	go func() { _ = server.Serve(one) }() // ends with Stop
	return service, func() { closeAll(); server.Stop() }, ends, nil
}

// hand hands a descriptor to the plugin.
func (p *process) hand(f *os.File) (number uint64, err error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	p.number++
	_ = p.fds.SetWriteDeadline(time.Now().Add(p.cfg.Answer))
	if _, _, err := p.fds.WriteMsgUnix(binary.BigEndian.AppendUint64(nil, p.number), unix.UnixRights(int(f.Fd())), nil); err != nil {
		return 0, fault.New("send channel", fault.Lost, "the plugin %s takes no descriptors: %w", p.cfg.Name, err)
	}
	return p.number, nil
}

// Node is the plugins.Dial of drivers that are plugins.Server: plugins.Serve(driver, host.Node).
func Node(conn, descriptors *net.UnixConn) (plugins.Driver, io.Closer, error) {
	cc, err := dialOver(conn)
	if err != nil {
		return nil, nil, fault.Wrap("reach the node", "", err)
	}
	cfg := Config{Name: "node"}.orDefaults()
	cfg.Call = plugins.MaxVerdict / commitTimes // of the end of a file that a foreign client has sent: other nodes may have to take it first
	p := &process{cfg: cfg, bridge: bridgepb.NewBridgeClient(cc), description: &bridgepb.DescribeReply{Name: "node", Channels: true},
		fds: descriptors, began: time.Now(), gone: make(chan struct{}), tells: true}
	p.kill = sync.OnceFunc(func() {
		_, _, _ = cc.Close(), conn.Close(), descriptors.Close()
		close(p.gone)
	})
	return &nodeDriver{p}, nodeEnd{p}, nil
}

// nodeEnd is the plugin's end of what leads to the node.
type nodeEnd struct{ p *process }

// Close implements io.Closer.
func (n nodeEnd) Close() error { n.p.kill(); return nil }

// Gone is closed when the node can be asked no more.
func (n nodeEnd) Gone() <-chan struct{} { return n.p.gone }

// nodeDriver is the node as plugins.Driver.
type nodeDriver struct{ p *process }

// Describe implements plugins.Driver.
func (n *nodeDriver) Describe() plugins.Description { return plugins.Description{Name: "node"} }

// Open implements plugins.Driver.
func (n *nodeDriver) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	return openOn(ctx, n.p, to)
}
