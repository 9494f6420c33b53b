package guest

import (
	"context"
	"runtime"
	"sync"

	"github.com/pannier/pannier/spec/fault"
)

// What foreign clients may have at a time, so that there is room for others.

// mostFiles is how many files of one user are under way at a listener: that come, or that go.
const mostFiles = 64

// hashing has a place for each password that is tried just now: half of the processors.
var hashing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// files counts what is under way, by user.
type files struct {
	mu  sync.Mutex
	now map[string]int
}

// take is a place for a file of the user's, and what gives it back.
func (f *files) take(user string) (give func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now[user] >= mostFiles {
		return nil, fault.New("take file", fault.Overloaded, "%d files of this user are under way, as many as may be", mostFiles)
	}
	if f.now == nil {
		f.now = map[string]int{}
	}
	f.now[user]++
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.now[user]--; f.now[user] == 0 {
			delete(f.now, user)
		}
	}), nil
}

// mayHash waits for a place to try a password.
func mayHash(ctx context.Context) (done func(), err error) {
	select {
	case hashing <- struct{}{}:
		return func() { <-hashing }, nil
	case <-ctx.Done():
		return nil, fault.Wrap("log in", "", ctx.Err())
	}
}

// naming has the names that uploads are being given just now.
var naming turns

// turns are locks by name.
type turns struct {
	mu  sync.Mutex
	now map[string]*turn
}

type turn struct {
	sync.Mutex
	users int
}

func (t *turns) lock(name string) (unlock func()) {
	t.mu.Lock()
	if t.now == nil {
		t.now = map[string]*turn{}
	}
	one := t.now[name]
	if one == nil {
		one = &turn{}
		t.now[name] = one
	}
	one.users++
	t.mu.Unlock()
	one.Lock()
	return func() {
		one.Unlock()
		t.mu.Lock()
		defer t.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(t.now, name)
		}
	}
}
