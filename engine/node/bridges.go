package node

import (
	"context"
	"crypto/sha256"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// bridges are the servers of other protocols that a node knows. It is
// task.Bridges.
type bridges struct {
	node *Node

	mu  sync.Mutex
	all map[string]*bridge
	wg  sync.WaitGroup // plugins that are being closed
}

// bridge is one of them: its plugin, and a login that those who use it share.
type bridge struct {
	config.Bridge
	plugin *host.Plugin

	mu      sync.Mutex
	session plugins.Session // nil: nobody has needed one, or the last is over
}

// partTime bounds what is done about a file whose sending has failed.
const partTime = 30 * time.Second

func (n *Node) newBridges(cfg *config.Config) error {
	n.bridges = &bridges{node: n}
	n.undone(n.bridges.close)
	return n.bridges.change(cfg)
}

// change makes the bridges those of a configuration. Those that stay as they are
// keep their plugins; the others' end when what uses them has.
func (b *bridges) change(cfg *config.Config) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := map[string]*bridge{}
	for name, is := range cfg.Bridges {
		if old := b.all[name]; old != nil && reflect.DeepEqual(old.Bridge, is) {
			next[name] = old
			continue
		}
		c, err := b.node.pluginConfig(is)
		if err != nil {
			return err
		}
		next[name] = &bridge{Bridge: is, plugin: host.New(c)}
	}
	for name, old := range b.all {
		if next[name] != old {
			b.wg.Go(old.close)
		}
	}
	b.all = next
	return nil
}

// pluginConfig is how the plugin of a bridge is run.
func (n *Node) pluginConfig(is config.Bridge) (host.Config, error) {
	c := host.Config{Path: is.Plugin, Args: is.Args}
	if !filepath.IsAbs(is.Plugin) {
		if !slices.Contains(n.o.Bundled, is.Plugin) {
			return c, fault.New("find plugin", fault.NotFound, "bridge %q: no plugin %q is part of this program: write its whole path", is.Name, is.Plugin)
		}
		c = host.Bundled(is.Plugin)
	}
	c.Name, c.SHA256, c.Log = is.Name, is.SHA256, n.log.With("bridge", is.Name)
	return c, nil
}

func (b *bridges) close() error {
	b.mu.Lock()
	for _, old := range b.all {
		b.wg.Go(old.close)
	}
	b.all = nil
	b.mu.Unlock()
	b.wg.Wait()
	return nil
}

func (b *bridge) close() {
	b.mu.Lock()
	s := b.session
	b.session = nil
	b.mu.Unlock()
	if s != nil {
		_ = s.Close()
	}
	_ = b.plugin.Close(context.Background())
}

// Send implements task.Bridges.
func (b *bridges) Send(ctx context.Context, name, remote string, src io.Reader, size int64) (string, error) {
	b.mu.Lock()
	to := b.all[name]
	b.mu.Unlock()
	if to == nil {
		return "", fault.New("find bridge", fault.NotFound, "no bridge is called %q: is it still in the configuration?", name)
	}
	if err := plugins.CheckName(remote); err != nil {
		return "", err
	}
	s, err := to.login(ctx)
	if err != nil {
		return "", err
	}
	verified, err := send(ctx, s, remote, src, size)
	if err != nil {
		to.leave(s, err)
	}
	return verified, err
}

// login is the session that there is, or a new one.
func (b *bridge) login(ctx context.Context) (plugins.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.session != nil {
		return b.session, nil
	}
	to := plugins.Endpoint{URL: b.Endpoint, Options: b.Options}
	if err := to.ReadCredentials(b.Credentials); err != nil {
		return nil, err
	}
	s, err := b.plugin.Open(ctx, to)
	if err == nil {
		b.session = s
	}
	return s, err
}

// leave gives up a session that an error may have been about, for the next user to
// have another.
func (b *bridge) leave(s plugins.Session, err error) {
	switch fault.KindOf(err) {
	case fault.Canceled, fault.SourceChanged, fault.NotFound, fault.Permission, fault.NoSpace, fault.Exists, fault.Invalid, fault.Unsupported:
		return
	}
	b.mu.Lock()
	mine := b.session == s
	if mine {
		b.session = nil
	}
	b.mu.Unlock()
	if mine {
		_ = s.Close()
	}
}

// send writes a file and compares what the server has with what was read.
func send(ctx context.Context, s plugins.Session, name string, src io.Reader, size int64) (verified string, err error) {
	w, ok := s.(plugins.Writer)
	if !ok {
		return "", fault.New("write", fault.Unsupported, "the server takes no files from this user")
	}
	staged, err := w.Write(ctx, name, plugins.WriteRequest{Size: size})
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	n, err := io.Copy(staged, io.TeeReader(src, digest))
	if err == nil && n != size {
		err = fault.New("read file", fault.SourceChanged, "it has %d bytes now, and had %d", n, size)
	}
	var has plugins.Attr
	if err == nil {
		has, err = staged.Commit(ctx)
	}
	if err != nil {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), partTime)
		defer cancel()
		_, _ = staged.Abort(after, false) // the error is the one before
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", err
	}
	if c, ok := s.(plugins.Checksummer); ok && slices.Contains(s.Capabilities().Checksums, "sha256") {
		sum, err := c.Checksum(ctx, name, "sha256", -1)
		if err == nil && !slices.Equal(sum, digest.Sum(nil)) {
			err = fault.New("compare", fault.Corrupt, "the server has a file of another sha256 under that name")
		}
		return "sha256", err
	}
	if has.Size >= 0 {
		if has.Size != size {
			return "", fault.New("compare", fault.Corrupt, "the server has %d bytes of %d", has.Size, size)
		}
		return "size", nil
	}
	return "", nil
}
