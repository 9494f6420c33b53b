package host

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// Plugin is a plugin that is started when it is first used, and again, with pauses,
// when it has crashed. Its methods may be called at the same time.
type Plugin struct {
	cfg   Config
	start func() (*process, error)

	mu       sync.Mutex
	now      *process      // nil: not started, or over
	starting chan struct{} // closed when a start is over; nil: none is under way
	failed   error         // of the last start
	budget   budget
	closed   bool
	done     chan struct{} // closed by Close
}

// New makes a plugin of a program. Nothing is started, nothing looked at.
func New(cfg Config) *Plugin {
	return of(cfg.orDefaults())
}

func of(cfg Config) *Plugin {
	return &Plugin{cfg: cfg, done: make(chan struct{}), start: func() (*process, error) { return start(cfg) }}
}

// Again is another plugin of the same configuration: what lies under the program's name.
func (p *Plugin) Again() *Plugin { return of(p.cfg) }

// InProcess makes a plugin of a driver that runs in this process; of cfg only the name,
// the log and the times count. It is for tests, and for drivers that need no walls.
func InProcess(cfg Config, d plugins.Driver) *Plugin {
	cfg = cfg.orDefaults()
	return &Plugin{cfg: cfg, done: make(chan struct{}), start: func() (*process, error) { return inProcess(cfg, d) }}
}

// Status is what is known of a plugin.
type Status struct {
	plugins.Description
	SHA256   string // of the program that runs
	PID      int    // of its process
	Channels bool   // it takes descriptors
	Server   bool   // it serves foreign clients
}

// Describe starts the plugin if it does not run, and says what it is.
func (p *Plugin) Describe(ctx context.Context) (Status, error) {
	run, err := p.running(ctx)
	if err != nil {
		return Status{}, err
	}
	return Status{Description: description(run.description), SHA256: run.sum, PID: run.pid, Channels: run.description.GetChannels(), Server: run.description.GetServer()}, nil
}

// Open logs in at a server. The session has those of the optional interfaces of package
// plugins that its capabilities list, and no others; it is a plugins.Limiter too. It
// does not outlive the process: then its methods fail with fault.Lost.
func (p *Plugin) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	run, err := p.running(ctx)
	if err != nil {
		return nil, err
	}
	return openOn(ctx, run, to)
}

// lateOpen is how long, after who has called has gone, a login is waited for until it is cancelled: a reply that is on its
// way would be lost with the cancelled call, and nobody could close its session.
const lateOpen = 2 * time.Second

// openOn returns when ctx ends. The call, which goes on for lateOpen, ends with the process at the latest.
func openOn(ctx context.Context, run *process, to plugins.Endpoint) (plugins.Session, error) {
	limited, done := limit(ctx, run.cfg.Call)
	defer done()
	calling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	type answer struct {
		*bridgepb.OpenReply
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		r, err := run.bridge.Open(calling, &bridgepb.OpenRequest{Url: to.URL, User: to.User, Password: to.Password, Secrets: to.Secrets, Options: to.Options})
		answered <- answer{r, err}
	}()
	select {
	case a := <-answered:
		cancel()
		if a.err != nil {
			return nil, run.failed(limited, a.err)
		}
		return combine(&session{p: run, number: a.GetSession(), can: capabilities(a.GetCapabilities())}), nil
	case <-limited.Done():
	}
	late := time.AfterFunc(lateOpen, cancel)
	go func() {
		defer cancel()
		defer late.Stop()
		if a := <-answered; a.err == nil {
			_ = (&session{p: run, number: a.GetSession()}).Close()
		}
	}()
	return nil, run.failed(limited, limited.Err())
}

// Close stops the plugin: it waits for sessions as long as the configuration and ctx
// say, and ends the process in any case. The plugin cannot be used again.
func (p *Plugin) Close(ctx context.Context) error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	if first {
		close(p.done)
	}
	run, starting := p.now, p.starting
	p.mu.Unlock()
	if starting != nil {
		<-starting
		p.mu.Lock()
		run = p.now
		p.mu.Unlock()
	}
	if run == nil {
		return nil
	}
	if first {
		run.end(ctx)
	}
	<-run.gone
	return nil
}

// Replaced tells whether what lies under the program's name is not what the process that
// runs executes. It is not, where none runs, where the configuration says which program it
// has to be, and of this very program. An error says that it could not be read.
func (p *Plugin) Replaced() (bool, error) {
	p.mu.Lock()
	for p.starting != nil {
		starting := p.starting
		p.mu.Unlock()
		<-starting
		p.mu.Lock()
	}
	run := p.now
	p.mu.Unlock()
	if run == nil || run.isGone() || run.sum == "" || p.cfg.SHA256 != "" || p.cfg.Path == self {
		return false, nil
	}
	program, sum, err := open(p.cfg)
	if err != nil {
		return false, err
	}
	defer program.Close()
	is, err := sum()
	return err == nil && is != run.sum, err
}

// Running is the process that there is; 0, where none runs.
func (p *Plugin) Running() (pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil || p.now.isGone() {
		return 0
	}
	return p.now.pid
}

// running is the process, started if need be.
func (p *Plugin) running(ctx context.Context) (*process, error) {
	for {
		p.mu.Lock()
		switch {
		case p.closed:
			p.mu.Unlock()
			return nil, fault.New("use plugin "+p.cfg.Name, fault.Draining, "it is being stopped")
		case p.now != nil && !p.now.isGone():
			defer p.mu.Unlock()
			return p.now, nil
		case p.starting == nil:
			p.noteCrash()
			wait, may := p.budget.next(time.Now())
			if !may {
				p.mu.Unlock()
				return nil, fault.New("start plugin "+p.cfg.Name, fault.Overloaded, "it has crashed %d times within %v, and is not started for another %v", crashes, crashTime, wait.Round(time.Second)).
					Advise("its log says why")
			}
			p.starting = make(chan struct{})
			go p.startAfter(wait, p.starting)
		}
		starting := p.starting
		p.mu.Unlock()
		select {
		case <-starting:
		case <-ctx.Done():
			return nil, fault.Wrap("start plugin", p.cfg.Name, ctx.Err())
		}
		p.mu.Lock()
		err := p.failed
		p.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

// noteCrash takes notice, under mu, of a process that has ended.
func (p *Plugin) noteCrash() {
	if p.now == nil {
		return
	}
	p.budget.crashed(time.Now(), time.Since(p.now.began))
	p.cfg.Crashed()
	p.now = nil
}

// startAfter starts a process after a pause, for all who wait.
func (p *Plugin) startAfter(pause time.Duration, over chan struct{}) {
	t := time.NewTimer(pause)
	defer t.Stop()
	var run *process
	var err error
	select {
	case <-t.C:
		run, err = p.start()
	case <-p.done:
		err = fault.New("start plugin "+p.cfg.Name, fault.Draining, "it is being stopped")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.failed, p.starting = run, err, nil
	if errors.Is(err, fault.Protocol) || errors.Is(err, fault.DeadPeer) || errors.Is(err, fault.Lost) { // it ran, and should have been better
		p.budget.crashed(time.Now(), 0)
		p.cfg.Crashed()
	}
	close(over)
}

// limit is ctx for a call that the host does not wait longer for.
func limit(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, most, errLate)
}
