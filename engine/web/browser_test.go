package web_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/web"
	"github.com/pannier/pannier/engine/web/webtest"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// browse runs a part of testdata/browser/page.mjs in Chromium against the page.
func (s *site) browse(part string, env ...string) {
	s.t.Helper()
	s.visit(part, nil, env...)
}

// visit is browse with what the script asks for on its way.
func (s *site) visit(part string, ask func(what string), env ...string) {
	s.t.Helper()
	webtest.Visit{Script: "testdata/browser/page.mjs", Args: []string{part, s.server.URL}, Env: env, Ask: ask}.Run(s.t)
}

// start opens a node with its files in dir and runs it until the test is over.
func start(t *testing.T, dir, name, more string) *node.Node {
	t.Helper()
	for _, d := range []string{dir, filepath.Join(dir, "files")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Parse(name+".toml", []byte(fmt.Sprintf("[node]\nname = %q\nstate = %q\nlisten = [\"unix://%s/peer\", \"tls://127.0.0.1:0\"]\nbandwidth = \"1MiB/s\"\ndrain = \"1s\"\n",
		name, filepath.Join(dir, "state"), dir)+strings.ReplaceAll(more, "%ROOT%", filepath.Join(dir, "files"))))
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.Open(t.Context(), cfg, node.Options{Output: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	return n
}

// Two nodes, and a browser that looks at one of them.
func TestBrowser(t *testing.T) {
	dir := shortDir(t)
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	partner := func(name string) string {
		return fmt.Sprintf("[[partner]]\nname = %q\naddress = \"unix://%s/peer\"\nuser = %q\n", name, filepath.Join(dir, name), u.Uid)
	}
	outbox := filepath.Join(dir, "hosta", "files", "outbox")
	if err := os.MkdirAll(outbox, 0o755); err != nil {
		t.Fatal(err)
	}
	folder := "[[folder]]\nname = \"outbox\"\nrule = \"push\"\npartner = \"hostb\"\ndir = \"outbox\"\nafter = \"keep\"\nstable = \"1s\"\n"
	gate := filepath.Join(dir, "go")
	rules := "[[rule]]\nname = \"push\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\ndigest = \"sha256\"\n"
	gated := "[[rule]]\nname = \"gated\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\n"
	pre := fmt.Sprintf("[rule.sender]\npre = [ { task = \"exec\", argv = [\"/usr/bin/test\", \"-e\", %q] } ]\n", gate)
	post := "[rule.receiver]\npost = [ { task = \"exec\", argv = [\"/bin/true\", \"a-secret-of-hostb\"] } ]\n"
	start(t, filepath.Join(dir, "hostb"), "hostb", partner("hosta")+rules+post+gated)
	a := start(t, filepath.Join(dir, "hosta"), "hosta", partner("hostb")+folder+"[[partner]]\nname = \"nowhere\"\naddress = \"tls://127.0.0.1:1\"\nkey = \"sha256:"+strings.Repeat("5a", 32)+"\"\n"+rules+gated+pre)
	send := func(partner, rule, file string, size int) {
		t.Helper()
		b := make([]byte, size)
		_, _ = rand.Read(b)
		if err := os.WriteFile(filepath.Join(dir, "hosta", "files", file), b, 0o644); err != nil {
			t.Error(err)
		}
		if _, _, err := a.Engine().Submit(t.Context(), engine.Order{Partner: partner, Rule: rule, Source: name(file)}); err != nil {
			t.Error(err)
		}
	}
	const image = "<img src=x onerror=document.title='owned'>.txt"
	send("hostb", "push", image, 10)
	for i := range 5 {
		send("nowhere", "push", fmt.Sprintf("later-%d.bin", i), 1000)
	}
	send("hostb", "gated", "broken.bin", 1000)
	s := siteOf(t, filepath.Join(dir, "hosta"))
	watched := filepath.Join(dir, "watched")
	over := make(chan struct{})
	go func() { // somebody has to look before it begins
		defer close(over)
		for t.Context().Err() == nil {
			if _, err := os.Stat(watched); err == nil {
				send("hostb", "push", "movie.bin", 16<<20)
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	s.visit("nodes", func(file string) { send("hostb", "push", file, 64<<20) }, "GO="+gate, "WATCHED="+watched, "HOSTILE="+image, "OUTBOX="+outbox)
	_ = os.WriteFile(watched, nil, 0o600) // if the browser never came so far
	<-over
}

// What operators do with more than a page of transfers, and by keyboard.
func TestBrowserWords(t *testing.T) {
	s := newSite(t)
	web.LimitWords(s.page, 40)
	for i := range 120 {
		s.engine.Set(request(i+1, func(st *engine.Status) {
			if i%2 == 0 {
				st.Spec.Partner = "far"
			}
		}))
	}
	moving := request(200, runs(1000))
	s.engine.Set(moving)
	for i := range 3 {
		s.engine.Set(request(300+i, ends, func(st *engine.Status) {
			st.Key.Requester, st.Role, st.Side, st.Spec.Rule, st.Spec.Partner = "third", lifecycle.Requested, lifecycle.Receiver, "in", "third"
		}))
	}
	s.browse("words", "RUNNING=/transfers/"+moving.Key.ID.String())
}

// Everything there is to see, for people who see little, or nothing; and pictures.
func TestLooks(t *testing.T) {
	s := newSite(t, func(c adminpb.AdminClient) adminpb.AdminClient {
		const long = "statement-with-a-name-that-is-as-long-as-names-get-2026-11-28"
		return timely{&watching{AdminClient: logged{c}, name: long + ".csv", files: 30}, long}
	})
	running, broken := s.sight()
	web.Fill(s.page, func(i int) (in, out float64) {
		x := float64(i) / 40
		return 40e6 * (1.2 + math.Sin(x/3) + .3*math.Sin(x*2)), 150e6 * max(0, .6+math.Sin(x/2)+.2*math.Sin(x*5))
	})
	s.browse("looks", "RUNNING=/transfers/"+running, "BROKEN=/transfers/"+broken)
}

// TestFirstLook: what an operator sees without scrolling, at a desk and on a phone, of a node where nothing
// has ever happened, of one where one of many has failed, and of one where three run.
func TestFirstLook(t *testing.T) {
	empty, failed, busy := newSite(t), newSite(t), newSite(t)
	for i := range 30 {
		failed.engine.Set(request(i+1, ends, called(fmt.Sprintf("catalogue/part-%02d.parquet", i))))
	}
	failed.engine.Set(request(31, called("payroll/november.xml"), fails(fault.NoSpace, "no space left on device while writing \"payroll/november.xml\"")))
	for i, file := range []string{"rushes/scene-04.mov", "invoices/2026-11.zip", "nightly/orders.db"} {
		busy.engine.Set(request(i+1, called(file), func(st *engine.Status) { st.Size = 4 << 30 }, runs(int64(i+1)<<30), func(st *engine.Status) { st.Live.Rate, st.Live.Limit = 64<<20, "disk" }))
	}
	empty.browse("sight", "FAILED="+failed.server.URL, "BUSY="+busy.server.URL)
}

// sight fills the node with transfers of each kind. It returns the ids of one that
// runs and one that has failed.
func (s *site) sight() (running, broken string) {
	now := time.Now()
	since := func(n int, ago time.Duration) func(*engine.Status) {
		return func(st *engine.Status) {
			st.Registered, st.Changed = now.Add(-ago-time.Duration(n)*time.Second), now.Add(-ago)
			if st.Failure.Kind != 0 {
				st.Failure.At = st.Changed
			}
		}
	}
	from := func(partner string, n int64) func(*engine.Status) {
		return func(st *engine.Status) {
			st.Key.Requester, st.Role, st.Side, st.Spec.Rule, st.Spec.Partner, st.Size = partner, lifecycle.Requested, lifecycle.Receiver, "in", partner, n
		}
	}
	big := func(n int64) func(*engine.Status) { return func(st *engine.Status) { st.Size = n } }
	speed := func(rate float64, limit string) func(*engine.Status) {
		return func(st *engine.Status) { st.Live.Rate, st.Live.Limit = rate, limit }
	}
	set := func(n int, change ...func(*engine.Status)) engine.Status {
		st := request(n, change...)
		s.engine.Set(st)
		return st
	}
	movie := set(901, called("rushes/2026-11-27/scene-04.mov"), big(48<<30), runs(31<<30), speed(218<<20, "bandwidth of the partner"), since(1, 3*time.Minute))
	set(902, called("invoices/2026-11.zip"), big(740<<20), runs(52<<20), speed(11<<20, ""), since(2, 20*time.Second))
	set(903, called("statements.csv.zst"), from("far", 2<<30), runs(1800<<20), speed(64<<20, "disk"), since(3, time.Minute))
	set(904, called("nightly/orders.db"), big(9<<30), since(4, 2*time.Minute), func(st *engine.Status) {
		st.State, st.Phase, st.Reason, st.Owner, st.Due, st.Rank, st.Attempt, st.Streak = lifecycle.Interrupted, lifecycle.Moving, lifecycle.Retrying, lifecycle.Requester, now.Add(10*time.Minute), 4<<30, 2, 1
		st.Failure = lifecycle.Failure{Kind: fault.Lost, Cause: "the session with there is gone: no answer for 30 s", At: st.Changed}
	})
	set(905, called("press-kit.zip"), big(310<<20), since(5, 4*time.Minute))
	set(906, called("archive/2019.tar.zst"), big(120<<30), since(6, time.Hour), func(st *engine.Status) {
		st.State, st.Phase, st.Reason, st.Owner, st.Due, st.Rank, st.Attempt = lifecycle.Interrupted, lifecycle.Moving, lifecycle.Stopped, lifecycle.Requester, now.Add(48*time.Hour), 77<<30, 1
	})
	lost := set(910, called("payroll/november.xml"), big(3<<20), fails(fault.Refused, `pre task 1, exec: exit status 1: schema "payroll-4" is not known`), since(10, 12*time.Minute), func(st *engine.Status) {
		st.Phase, st.Spec.Tasks[lifecycle.PreList], st.Tasks[lifecycle.PreList] = lifecycle.Pre, 2, 1
	})
	for i := range 6 {
		set(911+i, called(fmt.Sprintf("scans/page-%03d.tif", 40+i)), big(84<<20), fails(fault.NoSpace, fmt.Sprintf(`no space left on device while writing "scans/page-%03d.tif"`, 40+i)), since(11+i, 15*time.Minute), func(st *engine.Status) {
			st.Failure.Side, st.Rank = fault.Peer, 20<<20
		})
	}
	set(920, called(hostile), big(4), fails(fault.Canceled, "not wanted: <b>olga</b>"), since(20, 20*time.Minute))
	for i := range 40 {
		set(i+1, ends, called(fmt.Sprintf("catalogue/part-%02d.parquet", 40-i)), big(int64(37+i)<<20), since(40-i, 30*time.Minute))
	}
	at := func(ago time.Duration, seq int, name string, p lifecycle.Phase, rank int64, st lifecycle.State, f lifecycle.Failure) store.Entry {
		return store.Entry{Seq: uint64(seq), At: now.Add(-ago), Event: name, State: st, Phase: p, Rank: rank, Attempt: 1, Failure: f}
	}
	ref := store.RefOf(&movie.Record)
	s.engine.SetEvents(ref,
		at(3*time.Minute, 1, "Claim", lifecycle.Accepted, 0, lifecycle.Running, lifecycle.Failure{}), at(3*time.Minute, 2, "Advance", lifecycle.Pre, 0, lifecycle.Running, lifecycle.Failure{}),
		at(178*time.Second, 3, "Advance", lifecycle.Ready, 0, lifecycle.Running, lifecycle.Failure{}), at(177*time.Second, 4, "Advance", lifecycle.Moving, 0, lifecycle.Running, lifecycle.Failure{}),
		at(60*time.Second, 5, "Durable", lifecycle.Moving, 20<<30, lifecycle.Running, lifecycle.Failure{}), at(time.Second, 6, "Durable", lifecycle.Moving, 31<<30, lifecycle.Running, lifecycle.Failure{}))
	s.engine.SetTimeline(ref, engine.Timeline{Told: now, There: engine.Steps{
		Side: lifecycle.Receiver, State: lifecycle.Running, Phase: lifecycle.Moving, Attempt: 1, Rank: 31 << 30, Size: 48 << 30, All: [3]uint8{1, 2, 0}, Done: [3]uint8{1, 0, 0}, Clock: now,
		Reached: [...]time.Time{{}, now.Add(-180 * time.Second), now.Add(-179 * time.Second), now.Add(-178 * time.Second), now.Add(-177 * time.Second), 9: {}},
		Tasks:   []engine.TaskRun{{List: lifecycle.PreList, Number: 1, Began: now.Add(-179 * time.Second), Ended: now.Add(-178 * time.Second)}},
	}})
	s.engine.SetExplanation(ref, engine.Explanation{Summary: "moving bytes", Cause: "held up by the bandwidth of the partner", Next: "it goes on", Do: []string{"watch " + movie.Key.ID.String()[:8], "pause " + movie.Key.ID.String()[:8]}})
	broke := store.RefOf(&lost.Record)
	s.engine.SetTimeline(broke, engine.Timeline{Told: now.Add(-8 * time.Minute), Trouble: fault.Concluded("call partner", fault.Lost, "it cannot be reached: connection refused"), There: engine.Steps{
		Side: lifecycle.Receiver, State: lifecycle.Interrupted, Phase: lifecycle.Ready, Reason: "awaiting the requester", Attempt: 1, Size: -1, All: [3]uint8{1, 0, 0}, Done: [3]uint8{1, 0, 0}, Clock: now.Add(-9 * time.Minute),
		Reached: [...]time.Time{{}, now.Add(-13 * time.Minute), now.Add(-13 * time.Minute), now.Add(-13 * time.Minute), 9: {}},
		Tasks:   []engine.TaskRun{{List: lifecycle.PreList, Number: 1, Began: now.Add(-13 * time.Minute), Ended: now.Add(-13*time.Minute + 40*time.Millisecond)}},
	}})
	s.engine.SetEvents(broke,
		at(13*time.Minute, 1, "Claim", lifecycle.Accepted, 0, lifecycle.Running, lifecycle.Failure{}), at(13*time.Minute, 2, "Advance", lifecycle.Pre, 0, lifecycle.Running, lifecycle.Failure{}),
		at(13*time.Minute, 3, "BeginTask", lifecycle.Pre, 0, lifecycle.Running, lifecycle.Failure{}), at(12*time.Minute, 4, "Fail", lifecycle.Pre, 0, lifecycle.InError, lost.Failure))
	s.engine.SetExplanation(broke, engine.Explanation{Summary: "failed in the tasks before the bytes (phase PRE)", Cause: "refused, here: " + lost.Failure.Cause, Next: "nothing, until an operator retries it. A retry goes on from this phase: what is recorded done is not done again", Do: []string{"events " + lost.Key.ID.String()[:8], "retry " + lost.Key.ID.String()[:8]}})
	s.engine.SetPartner(engine.PartnerStatus{Name: "there", Address: "tls://there.example:6610", Connected: true, RTT: 12 * time.Millisecond, Running: 2, Queued: 3}, nil)
	s.engine.SetPartner(engine.PartnerStatus{Name: "far", Address: "tls://far.example:6610", Failure: lifecycle.Failure{Kind: fault.Lost, Cause: "connecting to tls://far.example:6610 failed: connection refused; look whether it runs, listens on this address and can be reached from here", At: now.Add(-time.Minute)}, RetryAt: now.Add(5 * time.Minute), Running: 1}, nil)
	return movie.Key.ID.String(), lost.Key.ID.String()
}
