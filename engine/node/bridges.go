package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/bridge"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// bridges are the servers of other protocols that a node knows. It is engine.Bridges
// and bridge.Servers.
type bridges struct {
	node *Node

	mu       sync.Mutex
	all      map[string]*server
	programs map[program]*host.Plugin
	wg       sync.WaitGroup // what is being closed
}

// program is what a plugin is: bridges that have the same one share its process, so that
// their servers can copy to each other.
type program struct {
	path, sha256 string
	args         string // a NUL behind each
	limits       limits
}

// limits are of a process: those of the bridge with the most.
type limits struct{ memory, files int64 }

// alone is a program without what may be another in the next configuration.
func (p program) alone() program { return program{path: p.path, args: p.args} }

func programOf(is config.Bridge) program {
	return program{path: is.Plugin, sha256: is.SHA256, args: strings.Join(append(slices.Clone(is.Args), ""), "\x00")}
}

// server is one of them, with a login that those who use it share.
type server struct {
	config.Bridge
	plugin *host.Plugin

	mu      sync.Mutex
	login   *login   // nil: nobody has needed one, or the last is over
	attempt *attempt // nil: nobody logs in just now
	refused *refusal // nil: the last login was not refused
	gone    bool     // nobody uses it any more
	users   sync.WaitGroup
}

// attempt is one to log in. Who needs a login meanwhile shares its outcome.
type attempt struct {
	over chan struct{} // closed when it is
	err  error         // then
	left bool          // then: it is over because who has begun it has gone
}

// errGone is what a server says that a reload has taken away.
var errGone = fault.New("use bridge", fault.Lost, "it is not in the configuration any more")

// login is a session and how many use it. Guarded by server.mu.
type login struct {
	plugins.Session
	users int
	old   bool // the next one has another
}

// partTime bounds what is done about a file whose sending has failed.
const partTime = 30 * time.Second

func (n *Node) newBridges(cfg *config.Config) error {
	n.bridges = &bridges{node: n}
	n.undone(n.bridges.close)
	return n.bridges.change(cfg, nil)
}

// bridgePlan is what a configuration makes of the bridges, before it is so.
type bridgePlan struct {
	next     map[string]*server
	programs map[program]*host.Plugin
	fresh    map[*host.Plugin]config.Bridge // not there before, with a bridge that has it
	patience time.Duration
}

// change makes the bridges those of a configuration. Those that stay as they are, with
// plugins whose programs do, keep their logins; the others' end when what uses them has,
// and with the last of its bridges a plugin does. ready have taken the place of plugins whose programs do not.
func (b *bridges) change(cfg *config.Config, ready upgrades) error {
	p, err := b.plan(cfg, ready)
	if err == nil {
		b.become(p)
	}
	return err
}

// become makes the bridges those of a plan.
func (b *bridges) become(p *bridgePlan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replace(p.next, p.programs, p.patience)
}

// plan is what change does. It starts no plugin.
func (b *bridges) plan(cfg *config.Config, ready upgrades) (*bridgePlan, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	plan := &bridgePlan{next: map[string]*server{}, programs: map[program]*host.Plugin{}, fresh: map[*host.Plugin]config.Bridge{}, patience: b.node.drainTime(cfg)}
	next, programs := plan.next, plan.programs
	most := map[program]limits{}
	for _, is := range cfg.Bridges {
		p := programOf(is)
		l := limits{is.Memory, max(most[p].files, is.Files)}
		if had := most[p].memory; had < 0 || is.Memory >= 0 && had > is.Memory {
			l.memory = had
		}
		most[p] = l
	}
	for name, is := range cfg.Bridges {
		p := programOf(is)
		p.limits = most[p]
		is.Memory, is.Files = p.limits.memory, p.limits.files
		if programs[p] == nil {
			programs[p] = b.programs[p]
			if fresh := ready[programs[p]]; fresh != nil {
				programs[p] = fresh
			}
			if programs[p] == nil {
				c, err := b.node.pluginConfig(is)
				if err != nil {
					return nil, err
				}
				programs[p] = host.New(c)
				plan.fresh[programs[p]] = is
			}
		}
		next[name] = b.all[name]
		if old := b.all[name]; old == nil || !reflect.DeepEqual(old.Bridge, is) || old.plugin != programs[p] {
			next[name] = &server{Bridge: is, plugin: programs[p]}
		}
	}
	return plan, nil
}

// replace has others from now on. What has another process in its place ends within
// patience, everything else when what uses it has. b.mu is held.
func (b *bridges) replace(next map[string]*server, programs map[program]*host.Plugin, patience time.Duration) {
	users := map[*host.Plugin][]*server{} // of what is gone
	for name, old := range b.all {
		if next[name] != old {
			users[old.plugin] = append(users[old.plugin], old)
		}
	}
	succeeded := map[program]bool{}
	for p := range programs {
		succeeded[p.alone()] = true
	}
	for p, plugin := range b.programs {
		if programs[p] == plugin {
			continue
		}
		most := time.Duration(0)
		if succeeded[p.alone()] {
			most = patience
		}
		servers := users[plugin]
		delete(users, plugin)
		b.wg.Go(func() { b.retire(plugin, servers, most) })
	}
	b.all, b.programs = next, programs
	for _, servers := range users {
		for _, s := range servers {
			b.wg.Go(s.end)
		}
	}
}

// retire ends a plugin when what uses it by those servers has ended, after most in any
// case; 0: however long that takes. What is cut off then is of a request that goes on
// with the next process.
func (b *bridges) retire(plugin *host.Plugin, servers []*server, most time.Duration) {
	pid := plugin.Running()
	if pid != 0 {
		b.node.log.Info("plugin ends when what it does has ended", "pid", pid, "within", most)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	if most > 0 {
		late := time.AfterFunc(most, func() {
			b.node.log.Warn("plugin is ended before what it does", "pid", pid, "after", most)
			cancel()
			_ = plugin.Close(ctx)
		})
		defer late.Stop()
	}
	go func() {
		defer close(done)
		var all sync.WaitGroup
		for _, s := range servers {
			all.Go(s.end)
		}
		all.Wait()
	}()
	<-done
	_ = plugin.Close(ctx)
	if pid != 0 {
		b.node.log.Info("plugin has ended", "pid", pid)
	}
}

// PluginConfig is how the plugin of a bridge is run by a program that has those bundled.
func PluginConfig(is config.Bridge, bundled []string) (host.Config, error) {
	c := host.Config{Name: filepath.Base(is.Plugin), Path: is.Plugin, Args: is.Args}
	if !filepath.IsAbs(is.Plugin) {
		if !slices.Contains(bundled, is.Plugin) {
			return c, fault.New("find plugin", fault.NotFound, "%q: no plugin %q is part of this program, which has %s: write the whole path of its own", is.Name, is.Plugin, strings.Join(bundled, ", "))
		}
		c = host.Bundled(is.Plugin)
	}
	c.SHA256, c.Memory, c.Files = is.SHA256, is.Memory, is.Files
	return c, nil
}

// pluginConfig is PluginConfig in this node.
func (n *Node) pluginConfig(is config.Bridge) (host.Config, error) {
	c, err := PluginConfig(is, n.o.Bundled)
	c.Log, c.Crashed = n.log, n.metrics.Crashed
	return c, err
}

func (b *bridges) close() error {
	b.mu.Lock()
	b.replace(nil, nil, 0)
	b.mu.Unlock()
	b.wg.Wait()
	return nil
}

// find is the server of a name; NotFound without one.
func (b *bridges) find(name string) (*server, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.all[name]; s != nil {
		return s, nil
	}
	return nil, fault.New("find bridge", fault.NotFound, "no bridge is called %q: is it still in the configuration?", name)
}

// Has implements bridge.Servers.
func (b *bridges) Has(name string) bool {
	_, err := b.find(name)
	return err == nil
}

// Login implements bridge.Servers.
func (b *bridges) Login(ctx context.Context, name string) (plugins.Session, func(error), error) {
	for {
		s, err := b.find(name)
		if err != nil {
			return nil, nil, err
		}
		session, over, err := s.use(ctx)
		if !errors.Is(err, error(errGone)) {
			return session, over, err
		}
	}
}

// Direct implements bridge.Servers.
func (b *bridges) Direct(from, to string) error {
	if from == to {
		return nil
	}
	x, err := b.find(from)
	if err != nil {
		return err
	}
	y, err := b.find(to)
	switch {
	case err != nil:
		return err
	case x.plugin != y.plugin:
		return fault.New("copy", fault.Unsupported, "they speak different protocols")
	case !slices.Contains(x.FXP, to) || !slices.Contains(y.FXP, from):
		return fault.New("copy", fault.Permission, "the bridges do not name each other in fxp")
	}
	return nil
}

// File implements engine.Bridges.
func (b *bridges) File(name, dir string, file relpath.Path) sideeffect.Identity {
	return bridge.File(b, name, dir, file)
}

// use is the login that there is, or a new one, and what says that its user is done.
func (s *server) use(ctx context.Context) (plugins.Session, func(error), error) {
	for {
		s.mu.Lock()
		if s.gone {
			s.mu.Unlock()
			return nil, nil, errGone
		}
		if l := s.login; l != nil {
			l.users++
			s.users.Add(1)
			s.mu.Unlock()
			var once sync.Once
			return l.Session, func(err error) { once.Do(func() { s.leave(l, err) }) }, nil
		}
		a, mine := s.attempt, s.attempt == nil
		if mine {
			a = &attempt{over: make(chan struct{})}
			s.attempt = a
			s.users.Add(1)
		}
		s.mu.Unlock()
		if mine {
			s.logIn(ctx, a)
		}
		select {
		case <-a.over:
		case <-ctx.Done():
			return nil, nil, fault.Wrap("log in", s.Name, context.Cause(ctx))
		}
		if a.err != nil && (mine || !a.left) {
			return nil, nil, a.err
		}
	}
}

// logIn makes an attempt.
func (s *server) logIn(ctx context.Context, a *attempt) {
	defer s.users.Done()
	defer close(a.over)
	to, err := s.endpoint(ctx)
	var session plugins.Session
	if err == nil {
		s.mu.Lock()
		err = s.heldBack(to, time.Now())
		s.mu.Unlock()
	}
	asked := err == nil
	if asked {
		session, err = s.plugin.Open(ctx, to)
	}
	s.mu.Lock()
	if asked {
		s.heard(to, err, time.Now())
	}
	s.attempt, a.err, a.left = nil, err, ctx.Err() != nil
	late := err == nil && s.gone
	if err == nil && !late {
		s.login = &login{Session: session}
	}
	s.mu.Unlock()
	if late {
		_ = session.Close()
	}
}

// end gives the server up, and waits for those who use it.
func (s *server) end() {
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
	s.leave(nil, errGone)
	s.users.Wait()
}

// endpoint is where to log in, and as whom. The file of credentials is read each time. That
// other bridges are allowed is for the plugin to know only as far as it has such an option:
// which ones, this node sees to.
func (s *server) endpoint(ctx context.Context) (plugins.Endpoint, error) {
	to := plugins.Endpoint{URL: s.Endpoint, Options: s.Options}
	if len(s.FXP) > 0 && s.Options[optionFXP] == "" {
		is, err := s.plugin.Describe(ctx)
		if err != nil {
			return to, err
		}
		if slices.ContainsFunc(is.Options, func(o plugins.Option) bool { return o.Name == optionFXP }) {
			if to.Options = maps.Clone(s.Options); to.Options == nil {
				to.Options = map[string]string{}
			}
			to.Options[optionFXP] = "any"
		}
	}
	return to, to.ReadCredentials(s.Credentials)
}

const optionFXP = "fxp"

// leave says that a user of a login is done, and how that ended: after an error that may be
// about the login the next one has another. Without a user it is that of now which is given
// up. The last user of an old one closes it.
func (s *server) leave(l *login, err error) {
	s.mu.Lock()
	if l == nil {
		if l = s.login; l == nil {
			s.mu.Unlock()
			return
		}
		l.users++
		s.users.Add(1)
	}
	if err != nil && ofLogin(err) {
		l.old = true
		if s.login == l {
			s.login = nil
		}
	}
	l.users--
	last := l.old && l.users == 0
	s.mu.Unlock()
	if last {
		_ = l.Close()
	}
	s.users.Done()
}

// ofLogin tells whether an error may go away with another login.
func ofLogin(err error) bool {
	switch fault.KindOf(err) {
	case fault.Canceled, fault.SourceChanged, fault.NotFound, fault.Permission, fault.NoSpace, fault.Exists, fault.Invalid, fault.Unsupported, fault.QuotaExceeded:
		return false
	}
	return true
}

// Send implements task.Bridges.
func (b *bridges) Send(ctx context.Context, name, remote string, f task.Outgoing) (string, error) {
	if err := plugins.CheckName(remote); err != nil {
		return "", err
	}
	s, over, err := b.Login(ctx, name)
	if err != nil {
		return "", err
	}
	verified, err := send(ctx, s, remote, f)
	over(err)
	return verified, err
}

// Fetch implements task.Bridges.
func (b *bridges) Fetch(ctx context.Context, name, remote string, dst io.Writer) (size int64, verified string, err error) {
	if err := plugins.CheckName(remote); err != nil {
		return 0, "", err
	}
	s, over, err := b.Login(ctx, name)
	if err != nil {
		return 0, "", err
	}
	size, verified, err = fetch(ctx, s, remote, dst)
	over(err)
	return size, verified, err
}

// fetch reads a file and compares what was read with what the server has.
func fetch(ctx context.Context, s plugins.Session, name string, dst io.Writer) (size int64, verified string, err error) {
	is, err := s.Stat(ctx, name)
	if err != nil {
		return 0, "", err
	}
	if is.Dir {
		return 0, "", fault.New("read", fault.Invalid, "%s is a directory", name)
	}
	r, err := s.Read(ctx, name, 0)
	if err != nil {
		return 0, "", err
	}
	digest := sha256.New()
	from := io.Reader(r)
	if is.Size >= 0 {
		from = io.LimitReader(r, is.Size+1) // it says more, and no end
	}
	size, err = io.Copy(dst, io.TeeReader(from, digest))
	if err == nil && is.Size >= 0 && size > is.Size {
		err = fault.New("read", fault.SourceChanged, "it had %d bytes, and has more now", is.Size)
	}
	if closed := r.Close(); err == nil {
		err = closed
	}
	switch {
	case err != nil:
		return size, "", err
	case is.Size >= 0 && is.Size != size:
		return size, "", fault.New("compare", fault.SourceChanged, "it had %d bytes, and %d came", is.Size, size)
	}
	if sum, err := bridge.Checksum(ctx, s, name, "sha256"); err != nil || sum != nil {
		return size, "sha256", same(err, sum, digest)
	}
	if is.Size >= 0 {
		return size, "size", nil
	}
	return size, "", nil
}

// same is err, or that the server has another digest than what went or came.
func same(err error, sum []byte, digest hash.Hash) error {
	if err == nil && !slices.Equal(sum, digest.Sum(nil)) {
		err = fault.New("compare", fault.Corrupt, "the server has a file of another sha256 under that name")
	}
	return err
}

// send writes a file and compares what the server has with what was read.
func send(ctx context.Context, s plugins.Session, name string, f task.Outgoing) (verified string, err error) {
	w, ok := s.(plugins.Writer)
	if !ok {
		return "", fault.New("write", fault.Unsupported, "the server takes no files from this user")
	}
	staged, err := bridge.Write(ctx, s, w, name, plugins.WriteRequest{Size: f.Size, ID: bridge.PartID([]byte(f.ID)), Again: f.Again, Modified: f.Modified})
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	n, err := io.Copy(staged, io.TeeReader(f.Content, digest))
	if err == nil && n != f.Size {
		err = fault.New("read file", fault.SourceChanged, "it has %d bytes now, and had %d", n, f.Size)
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
	if has.Verified != "" && has.Verified != "size" {
		return has.Verified, nil
	}
	if sum, err := bridge.ChecksumOfTaken(ctx, s, name, "sha256"); err != nil || sum != nil {
		return "sha256", same(err, sum, digest)
	}
	if has.Size >= 0 {
		if has.Size != f.Size {
			return "", fault.New("compare", fault.Corrupt, "the server has %d bytes of %d", has.Size, f.Size)
		}
		return "size", nil
	}
	return "", nil
}
