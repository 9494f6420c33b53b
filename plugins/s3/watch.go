package s3

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// watch ends a request whose server is silent: less than step bytes, in either direction,
// within limit. It does not run while the caller is busy with what has come.
type watch struct {
	limit time.Duration
	step  int64

	mu      sync.Mutex
	timer   *time.Timer
	got     int64         // bytes since the last sign of life
	left    time.Duration // of the limit, when it last began to run
	since   time.Time     // when that was
	running bool
}

func newWatch(limit time.Duration, cancel context.CancelCauseFunc) *watch {
	w := &watch{limit: limit, step: 1, left: limit, since: time.Now(), running: true}
	w.timer = time.AfterFunc(limit, func() {
		cancel(fault.Concluded("wait for the server", fault.DeadPeer, "it was silent for %s", fault.Shown(limit.String())).
			Advise("see whether the server is overloaded or the network is cut; raise the option timeout if it is only slow"))
	})
	return w
}

// moved notes that bytes have come or gone.
func (w *watch) moved(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.got += int64(n); w.got >= w.step && w.running {
		w.got, w.left, w.since = 0, w.limit, time.Now()
		w.timer.Reset(w.limit)
	}
}

// answered notes that the answer begins, whose body is to come in steps of at least so
// many bytes.
func (w *watch) answered(step int64) {
	w.moved(1)
	w.mu.Lock()
	w.step, w.got = step, 0
	w.mu.Unlock()
}

// pause stops the watch while nobody waits for the server, resume has it go on.
func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running {
		w.running = false
		w.timer.Stop()
		w.left -= time.Since(w.since)
	}
}

func (w *watch) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running, w.since = true, time.Now()
	w.timer.Reset(max(w.left, 0))
}

// sending is the body of a request: what is taken of it has gone on its way.
type sending struct {
	io.ReadCloser
	watch *watch
}

func (s sending) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.watch.moved(n)
	return n, err
}

// receiving is the body of a file.
type receiving struct {
	io.ReadCloser
	ctx   context.Context
	end   context.CancelCauseFunc
	watch *watch
}

func (r *receiving) Read(p []byte) (int, error) {
	r.watch.resume()
	n, err := r.ReadCloser.Read(p)
	r.watch.moved(n)
	r.watch.pause()
	if err != nil && err != io.EOF && context.Cause(r.ctx) != nil {
		err = context.Cause(r.ctx)
	}
	return n, err
}

func (r *receiving) Close() error {
	r.watch.pause()
	r.end(context.Canceled)
	return r.ReadCloser.Close()
}
