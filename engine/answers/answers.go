// Package answers asks what may never answer, as a file system whose server is gone.
package answers

import (
	"sync"
	"time"
)

// Patience is how long file systems are waited for.
const Patience = 2 * time.Second

// Answers are to one question about many names, as directories. What does not answer holds one
// goroutine for each name, however often it is asked.
type Answers[A any] struct {
	ask func(name string) A

	mu   sync.Mutex
	open map[string]*question[A] // not answered
}

// question is one that was asked.
type question[A any] struct {
	asked time.Time
	over  chan struct{}
	said  A // once over is closed
}

// To makes the answers to a question.
func To[A any](ask func(name string) A) *Answers[A] {
	return &Answers[A]{ask: ask, open: map[string]*question[A]{}}
}

// Within asks about all names at the same time, and has what has answered in that time.
func (a *Answers[A]) Within(d time.Duration, names ...string) map[string]A {
	asked := map[string]*question[A]{}
	for _, name := range names {
		asked[name] = a.question(name)
	}
	patience := time.NewTimer(d)
	defer patience.Stop()
	said, late := map[string]A{}, false
	for name, q := range asked {
		if !late {
			select {
			case <-q.over:
			case <-patience.C:
				late = true
			}
		}
		select {
		case <-q.over:
			said[name] = q.said
		default:
		}
	}
	return said
}

// Soon asks about one name, and has the answer if there is one in that time from when it was first asked
// for: who asks behind others waits no longer than they, and not at all for what has been silent for so long.
func (a *Answers[A]) Soon(d time.Duration, name string) (said A, answered bool) {
	q := a.question(name)
	patience := time.NewTimer(max(time.Until(q.asked.Add(d)), 1))
	defer patience.Stop()
	select {
	case <-q.over:
		return q.said, true
	case <-patience.C:
	}
	select {
	case <-q.over:
		return q.said, true
	default:
		return said, false
	}
}

// question asks, unless an answer to that is waited for already.
func (a *Answers[A]) question(name string) *question[A] {
	a.mu.Lock()
	defer a.mu.Unlock()
	if q := a.open[name]; q != nil {
		return q
	}
	q := &question[A]{asked: time.Now(), over: make(chan struct{})}
	a.open[name] = q
	go func() {
		q.said = a.ask(name)
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.open, name)
		close(q.over)
	}()
	return q
}
