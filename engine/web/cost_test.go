package web_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
)

// many is how many rows are live.
const many = 10_000

// busy is a node with many requests, of which those on the first page move all the
// time; move makes them.
func (s *site) busy() (move func()) {
	all := make([]engine.Status, many)
	for i := range all {
		all[i] = request(i)
		s.engine.Set(all[i])
	}
	rank := int64(0)
	return func() {
		rank += 1000
		for i := many - 50; i < many; i++ {
			st := all[i]
			runs(rank)(&st)
			st.Live.Rate = float64(rank%7) * 1e6
			s.engine.Set(st)
		}
	}
}

// viewer follows the first page and throws away what it is told, until ctx ends.
func (s *site) viewer(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+"/live/transfers", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	a, err := client.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", a.Status)
	}
	for lines := bufio.NewScanner(a.Body); lines.Scan(); {
		if bytes.HasPrefix(lines.Bytes(), []byte("retry")) {
			break
		}
	}
	return nil
}

// BenchmarkViewer is what those who look at 10,000 live rows cost the node: processor
// time as part of one core, with the cost of both ends of the admin socket and of the viewer
// itself, of the first viewer and of one more. Each is measured for twenty seconds.
func BenchmarkViewer(b *testing.B) {
	s := newSite(b)
	move := s.busy()
	measure := func(viewers int) float64 {
		ctx, stop := context.WithCancel(b.Context())
		over := make(chan error, viewers)
		for range viewers {
			go func() { over <- s.viewer(ctx) }()
		}
		time.Sleep(2 * time.Second) // the first look is the dearest
		before, began := used(b), time.Now()
		for range max(b.N, 20) {
			move()
			time.Sleep(time.Second)
		}
		part := float64(used(b)-before) / float64(time.Since(began)) * 100
		stop()
		for range viewers {
			if err := <-over; err != nil && ctx.Err() == nil {
				b.Error(err)
			}
		}
		return part
	}
	b.ResetTimer()
	none := measure(0)
	one := measure(1)
	more := measure(11)
	b.ReportMetric(one-none, "%core/first")
	b.ReportMetric((more-one)/10, "%core/next")
}

// BenchmarkGraph is what 10,000 requests that run cost the node while nobody looks at its page: processor time as
// part of one core, with both ends of the admin socket, over twenty seconds.
func BenchmarkGraph(b *testing.B) {
	s := newSite(b)
	for i := range many {
		s.engine.Set(request(i, runs(1000)))
	}
	time.Sleep(2 * time.Second) // the first looks
	b.ResetTimer()
	before, began := used(b), time.Now()
	time.Sleep(max(time.Duration(b.N), 20) * time.Second)
	b.ReportMetric(float64(used(b)-before)/float64(time.Since(began))*100, "%core")
}

// used is the processor time of this process.
func used(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A viewer that takes nothing costs nothing but its place: what it is sent is not
// queued, and others, and transfers, do not wait.
func TestDeadViewer(t *testing.T) {
	s := newSite(t)
	move := s.busy()
	dead := make([]func(), 20)
	for i := range dead {
		dead[i] = s.deaf()
	}
	names := s.events("/live/transfers")
	for range 3 {
		done := make(chan struct{})
		go func() { move(); close(done) }()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Fatal("transfers wait for viewers")
		}
		if _, ok := <-names; !ok {
			t.Fatal("a viewer was sent away")
		}
	}
	for _, hangUp := range dead {
		hangUp()
	}
	if st := s.engine.Requests()[many-1]; st.State != lifecycle.Running {
		t.Errorf("the last is %v", st.State)
	}
}
