package plugins

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/pannier/pannier/spec/bridgepb"
)

// The magic cookie of go-plugin: by it a program knows that a host has started it. It
// is no secret.
const (
	CookieKey   = "PANNIER_BRIDGE"
	CookieValue = "f3b1c9d0-speaks-another-protocol"
)

// ServiceName is what the plugin is called in go-plugin's terms.
const ServiceName = "bridge"

// Handshake is what host and plugin agree on before they speak.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: CookieKey, MagicCookieValue: CookieValue}
}

// leaseFd and channelsFd are what the host has opened for its plugin.
const (
	leaseFd    = 0
	channelsFd = 3
)

// Serve is the main function of a plugin: it serves the driver to the host that has
// started this process, and does not return. The process ends when the host does.
// Without a host it says in a line what this program is, and exits with 2. It makes
// slog's default logger one whose records become the host's. A Server needs
// Serve(d, host.Node).
func Serve(d Driver, node ...Dial) {
	if os.Getenv(CookieKey) != CookieValue {
		fmt.Fprintln(os.Stderr, usage(filepath.Base(os.Args[0]), d.Describe()))
		os.Exit(2)
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go leased(os.NewFile(leaseFd, "lease"))
	s := NewService(d, descriptors())
	s.ShareMemory()
	if len(node) > 0 {
		s.SetDial(node[0])
	}
	tls, err := secured()
	if err != nil {
		fmt.Fprintln(os.Stderr, "this plugin cannot speak with its host:", err)
		os.Exit(1)
	}
	plugin.Serve(&plugin.ServeConfig{
		TLSProvider:     tls,
		HandshakeConfig: Handshake(),
		Plugins:         plugin.PluginSet{ServiceName: Served(s)},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, s.Options()...)...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
	})
	end()
}

func usage(program string, d Description) string {
	return fmt.Sprintf("%s is the plugin %q %s of Pannier, for %s: it is run by a node whose partner has it as plugin, or by: pannier plugin verify ./%s --endpoint URL",
		program, d.Name, d.Version, strings.Join(d.Schemes, ", "), program)
}

// leased ends the process when the host has ended, or wants it to.
func leased(lease *os.File) {
	_, _ = io.Copy(io.Discard, lease)
	end()
}

// end ends this process and those that it has started, at once. Its socket and the
// directory of that go too: a host that was killed cannot see to it.
func end() {
	if dir := os.Getenv(plugin.EnvUnixSocketDir); dir != "" {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.Type() == os.ModeSocket {
				_ = os.Remove(filepath.Join(dir, e.Name()))
			}
		}
		_ = os.Remove(dir)
	}
	if unix.Getpgrp() == os.Getpid() {
		_ = unix.Kill(0, unix.SIGKILL)
	}
	os.Exit(0)
}

// descriptors is the socket that they come over; nil if the host has not given one.
func descriptors() *net.UnixConn {
	if kind, err := unix.GetsockoptInt(channelsFd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_SEQPACKET {
		return nil
	}
	f := os.NewFile(channelsFd, "descriptors")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil
	}
	u, _ := c.(*net.UnixConn)
	return u
}

// Served is the service in go-plugin's terms; a host needs none for its end.
func Served(s *Service) plugin.Plugin { return served{service: s} }

// served implements plugin.GRPCPlugin.
type served struct {
	plugin.NetRPCUnsupportedPlugin
	service *Service
}

// GRPCServer implements plugin.GRPCPlugin.
func (p served) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	bridgepb.RegisterBridgeServer(s, p.service)
	return nil
}

// GRPCClient implements plugin.GRPCPlugin.
func (served) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return bridgepb.NewBridgeClient(conn), nil
}
