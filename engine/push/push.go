package push

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Limits.
const (
	mostWaiting  = 4096 // records in memory; others are found in the store later
	reserve      = 10_000
	requestTime  = 30 * time.Second
	firstBackOff = time.Second
	mostBackOff  = 5 * time.Minute
	mostReply    = 64 << 10 // bytes of an answer that are read
	mostSecret   = 4096
)

// Config is where finished records go.
type Config struct {
	Node   string
	URL    string
	Secret string        // file of the bearer token; "": none
	Batch  int           // records of one request
	Every  time.Duration // between requests
	Cursor string        // file
	Find   func(ctx context.Context, q store.Query) iter.Seq2[lifecycle.Record, error]
	Log    *slog.Logger
	Pushed func(n int, err error) // told of each request; nil: nobody
	Client *http.Client           // nil: one that follows no redirect
}

// Pusher sends finished records. Its methods may be called at the same time.
type Pusher struct {
	cfg  Config
	ctx  context.Context
	stop context.CancelFunc
	over chan struct{}
	kick chan struct{}

	mu      sync.Mutex
	waiting []lifecycle.Record // by the time they came
	missed  bool               // the store has some that are not in waiting

	// The sender's alone.
	cursor  cursor
	seq     uint64               // of the last record sent
	further int                  // records to look at while none is taken, once none was
	passed  int                  // records since the start that the endpoint would not take
	recent  map[string]time.Time // what was taken, and when it had finished, within the margin
}

// Open begins to send what has finished since the cursor.
func Open(cfg Config) (*Pusher, error) {
	if cfg.Pushed == nil {
		cfg.Pushed = func(int, error) {}
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: requestTime, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	c, err := loadCursor(cfg.Cursor, time.Now())
	if err != nil {
		return nil, err
	}
	p := &Pusher{cfg: cfg, over: make(chan struct{}), kick: make(chan struct{}, 1), missed: true, cursor: c, seq: c.Reserved, recent: map[string]time.Time{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	go p.run()
	return p, nil
}

// Close ends it. What was not taken is sent by the next process.
func (p *Pusher) Close() error {
	p.stop()
	<-p.over
	return nil
}

// Committed is for store.Seen.
func (p *Pusher) Committed(r *lifecycle.Record) {
	if !r.State.Final() {
		return
	}
	p.mu.Lock()
	if len(p.waiting) < mostWaiting && !p.missed { // what is behind something missed is found with it
		p.waiting = append(p.waiting, *r)
	} else {
		p.missed = true
	}
	p.mu.Unlock()
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Backlog is how many records wait, as far as is known.
func (p *Pusher) Backlog() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.waiting); n > 0 || !p.missed {
		return n
	}
	return 1
}

// run is the one goroutine that sends; Open starts it, Close ends it.
func (p *Pusher) run() {
	defer close(p.over)
	defer p.cfg.Client.CloseIdleConnections()
	failures := 0
	for p.ctx.Err() == nil {
		batch, err := p.next()
		if err == nil && len(batch) == 0 {
			select {
			case <-p.kick:
				p.pause(p.cfg.Every) // more may follow, and goes with it
			case <-p.ctx.Done():
			}
			continue
		}
		if err == nil {
			var h handed
			h.err = p.send(batch, &h)
			p.handled(batch, &h)
			if err = h.err; len(h.taken) > 0 {
				failures = 0
			}
		}
		if p.ctx.Err() != nil {
			return
		}
		if err == nil {
			continue
		}
		if failures++; failures == 1 {
			p.cfg.Log.Warn("finished records cannot be pushed; they wait, and are tried again", "error", err)
		}
		p.cfg.Pushed(max(len(batch), 1), err)
		p.pause(backOff(failures))
	}
}

// backOff grows from the first to the longest, with a fifth of jitter either way.
func backOff(failures int) time.Duration {
	d := min(firstBackOff<<min(failures-1, 10), mostBackOff)
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

func (p *Pusher) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ctx.Done():
	}
}

// next is what is sent next: the first of what waits, or of what the store has beyond that.
func (p *Pusher) next() ([]lifecycle.Record, error) {
	p.mu.Lock()
	look := p.missed && len(p.waiting) == 0
	if look {
		p.missed = false // what comes meanwhile is in waiting, or sets it again
	}
	p.mu.Unlock()
	if look {
		found, more, err := p.look()
		p.mu.Lock()
		if more || err != nil {
			p.missed, p.waiting = true, nil
		}
		p.waiting = append(found, p.waiting...)
		p.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
	return p.first(), nil
}

// first is the first of what waits. A record the store had before it was told of is there
// twice, or was taken before: only one is sent.
func (p *Pusher) first() []lifecycle.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	var batch []lifecycle.Record
	names := map[string]bool{}
	n := 0
	for ; n < len(p.waiting) && len(batch) < max(p.cfg.Batch, p.further+1); n++ {
		id := name(&p.waiting[n])
		if _, taken := p.recent[id]; !taken && !names[id] {
			names[id] = true
			batch = append(batch, p.waiting[n])
		}
	}
	if len(batch) < n {
		p.waiting = append(slices.Clone(batch), p.waiting[n:]...)
	}
	return batch
}

// post makes one request. Whatever is not 2xx is an error.
func (p *Pusher) post(batch []lifecycle.Record) error {
	const op = "push finished records"
	if last := p.seq + uint64(len(batch)); last > p.cursor.Reserved {
		p.cursor.Reserved = last + reserve
		if err := p.cursor.save(p.cfg.Cursor); err != nil {
			return err
		}
	}
	m := message{Node: p.cfg.Node}
	for i := range batch {
		m.Records = append(m.Records, recordOf(&batch[i], p.seq+1+uint64(i)))
	}
	body, err := json.Marshal(m)
	if err != nil {
		return fault.Wrap(op, "", err)
	}
	ctx, cancel := context.WithTimeout(p.ctx, requestTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return fault.Wrap(op, "", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "pannier")
	if p.cfg.Secret != "" {
		token, err := ReadToken(p.cfg.Secret)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	reply, err := p.cfg.Client.Do(req)
	if err != nil {
		return fault.New(op, fault.Lost, "%w", fault.WithoutAddress(err))
	}
	defer reply.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(reply.Body, mostReply))
	status := fmt.Sprintf("%d %s", reply.StatusCode, http.StatusText(reply.StatusCode)) // its own words may be what it was told
	switch reply.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return fault.New(op, fault.Refused, "%w", &unfit{status})
	}
	if reply.StatusCode/100 != 2 {
		return fault.New(op, fault.Refused, "the endpoint answers %s", status)
	}
	return nil
}

// ReadToken reads the bearer token. Permission: others may read it.
func ReadToken(path string) (string, error) {
	const op = "read token of push endpoint"
	f, err := os.Open(path)
	if err != nil {
		return "", fault.Wrap(op, path, err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || fi.Mode().Perm()&0o077 != 0 {
		return "", fault.New(op, fault.Permission, "others may read %s: chmod 0600 it", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, mostSecret))
	token := strings.TrimSpace(string(b))
	if err == nil && (token == "" || strings.ContainsAny(token, "\r\n")) {
		return "", fault.New(op, fault.Invalid, "%s has no token of one line", path)
	}
	return token, fault.Wrap(op, path, err)
}

// took notes that nothing is left to do for a batch.
func (p *Pusher) took(batch []lifecycle.Record) {
	p.mu.Lock()
	p.waiting = p.waiting[len(batch):]
	if len(p.waiting) == 0 {
		p.waiting = nil
	}
	p.mu.Unlock()
	for i := range batch {
		r := &batch[i]
		p.recent[name(r)] = r.Changed
		if at := r.Changed.Add(-margin); at.After(p.cursor.Time) {
			p.cursor.Time = at
		}
	}
	for id, at := range p.recent {
		if at.Before(p.cursor.Time) {
			delete(p.recent, id)
		}
	}
	if err := p.cursor.save(p.cfg.Cursor); err != nil {
		p.cfg.Log.Warn("what was pushed may be pushed again after a restart", "error", err)
	}
}

// name names one end of one request.
func name(r *lifecycle.Record) string {
	return fmt.Sprintf("%v/%s/%v/%d", r.Role, r.Key.Requester, r.Key.ID, r.Version)
}
