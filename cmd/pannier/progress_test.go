package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/spec/adminpb"
)

// moving is a request of 1000 MiB whose bytes move.
func moving(change func(*adminpb.Live)) *adminpb.Request {
	l := &adminpb.Live{Doing: "moving bytes", Total: 1000 << 20, Durable: 500 << 20, Received: 532 << 20, Rate: 10 << 20}
	change(l)
	return &adminpb.Request{Id: "3f2a1b2c00", Side: adminpb.Request_SENDER, Source: "b.tar", State: adminpb.Request_RUNNING, Step: "TRANSFERTASK", Size: 1000 << 20, Live: l}
}

// TestProgressLine: what is safe counts; what has only arrived stands behind a plus;
// 100 % is not said before everything is safe.
func TestProgressLine(t *testing.T) {
	for _, c := range []struct {
		r    *adminpb.Request
		want string
	}{
		{moving(func(l *adminpb.Live) {}), "3f2a1b2c  b.tar   50%  500 MiB (+32 MiB) of 1000 MiB  10 MiB/s  ETA 46s"},
		{moving(func(l *adminpb.Live) { l.Limit = "bandwidth of the partner" }),
			"3f2a1b2c  b.tar   50%  500 MiB (+32 MiB) of 1000 MiB  10 MiB/s  ETA 46s  limited by bandwidth of the partner"},
		{moving(func(l *adminpb.Live) { l.Rate, l.Doing = 0, "waiting for the partner" }),
			"3f2a1b2c  b.tar   50%  500 MiB (+32 MiB) of 1000 MiB  waiting for the partner"},
		{moving(func(l *adminpb.Live) { l.Received, l.Durable, l.Rate = 1000<<20, 1000<<20-1, 0 }), "3f2a1b2c  b.tar   99%  1000 MiB (+1 B) of 1000 MiB  moving bytes"},
		{moving(func(l *adminpb.Live) {
			l.Received, l.Durable, l.Rate, l.Doing = 1000<<20, 1000<<20, 0, "post task 1, exec"
		}),
			"3f2a1b2c  b.tar  100%  1000 MiB of 1000 MiB  post task 1, exec"},
		{moving(func(l *adminpb.Live) { l.Total, l.Durable, l.Received, l.Rate = 1<<62, 1<<62-1, 1<<62-1, 0 }), "3f2a1b2c  b.tar   99%  4.0 EiB of 4.0 EiB  moving bytes"},
		{moving(func(l *adminpb.Live) { l.Total = -1 }), "3f2a1b2c  b.tar  500 MiB (+32 MiB)  10 MiB/s"},
		{moving(func(l *adminpb.Live) { l.Rate = 1e-9 }), "3f2a1b2c  b.tar   50%  500 MiB (+32 MiB) of 1000 MiB  0 B/s"},
		{&adminpb.Request{Id: "3f2a1b2c00", Side: adminpb.Request_RECEIVER, Target: "x", State: adminpb.Request_INTERRUPTED, Reason: "retrying", Size: -1,
			Due: timestamppb.New(noon.Add(2 * time.Minute)), Failure: &adminpb.Failure{Name: "connection lost"}},
			"3f2a1b2c  x  INTERRUPTED, retrying, due in 2m: connection lost"},
		{&adminpb.Request{Id: "3f2a1b2c00", Side: adminpb.Request_SENDER, Source: "x", State: adminpb.Request_TOSUBMIT, Size: 5}, "3f2a1b2c  x  TOSUBMIT"},
	} {
		if got := requestLine(c.r, noon, false); got != c.want {
			t.Errorf("%q\nwant\n%q", got, c.want)
		}
	}
}

func TestProgressOfSeveral(t *testing.T) {
	m := &meter{requests: []*adminpb.Request{
		moving(func(*adminpb.Live) {}), {State: adminpb.Request_DONE, Size: 1000 << 20, Durable: 1000 << 20}, {State: adminpb.Request_INERROR},
	}}
	if got, want := m.line(noon, false), "1 of 3 done, 1 failed   75%  1.5 GiB (+32 MiB) of 2.0 GiB  10 MiB/s  ETA 46s"; got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
	m.requests[0], m.requests[1] = m.requests[1], m.requests[0]
	m.requests[0].Size = -1 // the others' do not make up for it
	if got, want := m.line(noon, false), "1 of 3 done, 1 failed  1.5 GiB (+32 MiB)  10 MiB/s"; got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

// TestMeter: one line that is redrawn on a terminal, no wider than that; in a log a line
// when something has changed. Nothing of a file's name is obeyed.
func TestMeter(t *testing.T) {
	var b strings.Builder
	r := moving(func(*adminpb.Live) {})
	m := newMeter(&b, []*adminpb.Request{r})
	m.draw(noon)
	m.draw(noon)
	m.note(moving(func(l *adminpb.Live) { l.Durable = 600 << 20 }))
	m.draw(noon)
	m.clear()
	if lines := strings.Split(b.String(), "\n"); len(lines) != 3 || !strings.Contains(lines[1], " 60%") {
		t.Errorf("%q", lines)
	}
	b.Reset()
	evil := moving(func(*adminpb.Live) {})
	evil.Source, evil.Live.Limit = "a\x1b[2Jb", "c\x1bd"
	m = &meter{w: &b, terminal: true, width: 40, requests: []*adminpb.Request{evil}}
	m.draw(noon)
	m.clear()
	if want := "\r\x1b[K" + `3f2a1b2c  "a\x1b[2Jb"   50%  500 MiB (+` + "\r\x1b[K"; b.String() != want {
		t.Errorf("%q\nwant\n%q", b.String(), want)
	}
}
