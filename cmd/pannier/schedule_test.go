package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/adminpb"
)

// TestSchedule: what operators see of schedules, and a run by their order.
func TestSchedule(t *testing.T) {
	c := newConduit(t)
	c.write(folderRule+`
[[schedule]]
name    = "nightly"
cron    = "30 2 * * *"
zone    = "Europe/Berlin"
rule    = "out"
partner = "hostb"
source  = "*.csv"
target  = "in/{name}"
[[schedule]]
name    = "nowhere"
cron    = "30 2 * * *"
zone    = "Europe/Berlin"
rule    = "out"
partner = "hostb"
source  = "nodir/*.csv"
`, folderRule)
	for _, name := range []string{"a.csv", "b.csv", "c.txt"} {
		if err := os.WriteFile(filepath.Join(c.a.Root, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.start(c.b, c.a)
	if out := c.does("schedule", "list"); !strings.Contains(out, "nightly\t30 2 * * *\tEurope/Berlin\t20") || !strings.Contains(out, "\t-\t-\t0\tout\thostb\t*.csv\t-\n") {
		t.Errorf("list says\n%s", out)
	}
	if _, said, err := c.pannier("schedule", "run", "nowhere"); err == nil || !strings.Contains(said, "there is no directory "+c.a.Root+"/nodir") {
		t.Errorf("a directory that is not there: %v, %s", err, said)
	}
	if out := c.does("schedule", "list"); !strings.Contains(out, "\tfailed\t0\t") {
		t.Errorf("list says\n%s", out)
	}
	out := c.does("schedule", "run", "nightly")
	n, id, _ := strings.Cut(strings.TrimSpace(out), "\t")
	if n != "2" || len(id) != 32 {
		t.Errorf("run says %s", out)
	}
	c.until("both have arrived", func() bool { n := c.ended(); return n["in/a.csv"] == 1 && n["in/b.csv"] == 1 && len(n) == 2 })
	if out := c.does("ls", "--follow", id); strings.Count(out, "\n") != 2 && strings.Count(out, "\n") != 3 {
		t.Errorf("ls says\n%s", out)
	}
	if out := c.does("schedule", "show", "nightly"); !strings.Contains(out, "made, 2 requests") || strings.Count(out, "next\t") != 5 {
		t.Errorf("show says\n%s", out)
	}
	if _, said, err := c.pannier("schedule", "show", "nighty"); err == nil || !strings.Contains(said, `no schedule is called "nighty"`) {
		t.Errorf("%v, %s", err, said)
	}
	text, err := os.ReadFile(c.a.Config())
	if err != nil {
		t.Fatal(err)
	}
	for with, want := range map[string]string{"30 3 * * *": "schedule nightly has changed", "30 2 * *": "five fields"} {
		if err := os.WriteFile(c.a.Config(), []byte(strings.Replace(string(text), "30 2 * * *", with, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, said, _ := c.pannier("reload"); !strings.Contains(out+said, want) {
			t.Errorf("reload says %s%s", out, said)
		}
	}
	if out := c.does("schedule", "list"); !strings.Contains(out, "30 3 * * *") { // a bad file has changed nothing
		t.Errorf("list says\n%s", out)
	}
}

// TestScheduleKilled: a node is killed again and again around the time when forty schedules are
// due. Each makes its run once.
func TestScheduleKilled(t *testing.T) {
	t.Parallel() // it waits for a full minute
	c := newConduit(t)
	const schedules, files = 40, 3
	var more strings.Builder
	for i := range schedules {
		fmt.Fprintf(&more, "[[schedule]]\nname = \"s%d\"\ncron = \"* * * * *\"\nzone = \"UTC\"\nrule = \"out\"\npartner = \"hostb\"\nsource = \"*.csv\"\ntarget = \"%d/{hour}{minute}/{name}\"\n", i, i)
	}
	c.write(folderRule+more.String(), folderRule)
	for i := range files {
		if err := os.WriteFile(filepath.Join(c.a.Root, fmt.Sprintf("f%d.csv", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.start(c.b, c.a)
	rnd := rand.New(rand.NewPCG(3, 4))
	due := time.Now().Truncate(time.Minute).Add(time.Minute)
	if time.Until(due) < 2*time.Second {
		due = due.Add(time.Minute) // not before the node knows its schedules
	}
	time.Sleep(time.Until(due) + time.Duration(rnd.IntN(30))*time.Millisecond)
	for range 6 {
		c.a.Kill()
		c.start(c.a)
		time.Sleep(time.Duration(rnd.IntN(120)) * time.Millisecond)
	}
	c.a.Kill()
	c.start(c.a)
	at := due.UTC().Format("1504")
	c.until("all runs are made", func() bool {
		reply, err := c.client(c.a).ListSchedules(t.Context(), &adminpb.ListSchedulesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		made := 0
		for _, s := range reply.GetSchedules() {
			if s.GetLast().GetOutcome() == "made" && len(s.GetPending()) == 0 && s.GetLast().GetRequests() == files {
				made++
			}
		}
		return made == schedules
	})
	all, err := c.client(c.a).List(t.Context(), &adminpb.ListRequest{}) // some have failed: they ran in each process that died
	if err != nil {
		t.Fatal(err)
	}
	registered := map[string]map[string]bool{} // one that ends meanwhile may be seen twice
	for {
		r, err := all.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if registered[r.GetTarget()] == nil {
			registered[r.GetTarget()] = map[string]bool{}
		}
		registered[r.GetTarget()][r.GetId()] = true
	}
	for i := range schedules {
		for k := range files {
			if name := fmt.Sprintf("%d/%s/f%d.csv", i, at, k); len(registered[name]) != 1 {
				t.Errorf("%s was registered %d times", name, len(registered[name]))
			}
		}
	}
}

// TestTimedObjects: pools, folders and schedules are applied, exported and deleted while the node
// runs; what others need is not deleted, and a bad one changes nothing.
func TestTimedObjects(t *testing.T) {
	c := newConduit(t)
	c.write(folderRule, folderRule)
	c.start(c.b, c.a)
	apply := func(text string) (string, string, error) {
		t.Helper()
		file := filepath.Join(c.a.Dir, "objects.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "pannier", "apply", "-f", file, "--config", c.a.Config())
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		err := cmd.Run()
		return out.String(), said.String(), err
	}
	const objects = `[[pool]]
name      = "wan"
bandwidth = ["00:00-12:00 5MB/s", "20MB/s"]

[[rule]]
name      = "pooled"
direction = "send"
partners  = ["hostb"]
root      = "%ROOT%"
pool      = "wan"

[[schedule]]
name    = "nightly"
cron    = "@daily"
rule    = "pooled"
partner = "hostb"
source  = "x"

[[folder]]
name    = "box"
rule    = "pooled"
partner = "hostb"
dir     = "box"
`
	text := strings.ReplaceAll(objects, "%ROOT%", c.a.Root)
	if _, said, err := apply(strings.Replace(text, "@daily", "@dayly", 1)); err == nil || !strings.Contains(said, `objects.toml:14:11: "@dayly"`) {
		t.Errorf("%v: %s", err, said)
	}
	if out := c.does("schedule", "list") + c.does("pool", "list"); strings.Contains(out, "nightly") || strings.Contains(out, "wan") {
		t.Errorf("a bad text has changed something:\n%s", out)
	}
	if _, said, err := apply(text); err == nil || !strings.Contains(said, "folder box: there is no directory") {
		t.Errorf("a folder without a directory: %v: %s", err, said)
	}
	if err := os.Mkdir(filepath.Join(c.a.Root, "box"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, said, err := apply(text); err != nil || strings.Count(out, ": new\n") != 4 {
		t.Errorf("%v: %s%s", err, out, said)
	}
	if out, said, err := apply(text); err != nil || strings.Count(out, ": same\n") != 4 || said != "" { // of what is new only
		t.Errorf("%v: %s%s", err, out, said)
	}
	if out := c.does("pool", "list"); !strings.Contains(out, "wan\t5MB/s\t20") && !strings.Contains(out, "wan\t20MB/s\t20") || !strings.Contains(out, "\tpooled\t0\t0") {
		t.Errorf("pools are\n%s", out)
	}
	if out := c.does("export"); !strings.Contains(out, "[[pool]]") || !strings.Contains(out, "[[schedule]]") || !strings.Contains(out, "[[folder]]") {
		t.Errorf("export is\n%s", out)
	}
	c.a.Kill()
	c.start(c.a)
	if out := c.does("schedule", "list") + c.does("folder", "list"); !strings.Contains(out, "nightly\t@daily") || !strings.Contains(out, "box\t") {
		t.Errorf("after a start there are\n%s", out)
	}
	if _, said, err := c.pannier("pool", "delete", "wan"); err == nil || !strings.Contains(said, `no pool is called "wan"`) {
		t.Errorf("%v: %s", err, said)
	}
	for _, what := range []string{"schedule nightly", "folder box", "rule pooled", "pool wan"} {
		kind, name, _ := strings.Cut(what, " ")
		if _, said, err := c.pannier(kind, "delete", "--revision", "77", name); err == nil || !strings.Contains(said, "at revision 1, not 77") {
			t.Errorf("%v: %s", err, said)
		}
		c.does(kind, "delete", name)
	}
	if out := c.does("export"); strings.Contains(out, "[[") {
		t.Errorf("export is\n%s", out)
	}
}

// TestExpect: a file that is late is at the head of the list, in the audit log and the log, over
// restarts; one that comes is found with its request.
func TestExpect(t *testing.T) {
	c := newConduit(t)
	c.write(folderRule+"[audit]\nenabled = true\n", folderRule)
	c.start(c.b, c.a)
	add := func(args ...string) (string, string, error) {
		return c.pannier(append([]string{"expect", "add"}, args...)...)
	}
	for want, args := range map[string][]string{
		`no rule is called "oot"; did you mean "out"?`: {"x", "--rule", "oot", "--partner", "hostb", "--file", "*.csv", "--at", "2999-01-01 00:00"},
		`no partner is called "hostd"`:                 {"x", "--rule", "out", "--partner", "hostd", "--file", "*.csv", "--at", "2999-01-01 00:00"},
		`is no time`:                                   {"x", "--rule", "out", "--partner", "hostb", "--file", "*.csv", "--at", "soon"},
		`is no pattern`:                                {"x", "--rule", "out", "--partner", "hostb", "--file", "[\"\\", "--at", "2999-01-01 00:00"},
		`missing at once`:                              {"x", "--rule", "out", "--partner", "hostb", "--file", "*.csv", "--at", "2020-01-01 00:00"},
		`control characters`:                           {"x", "--rule", "out", "--partner", "hostb", "--file", "a\n[[rule]]", "--at", "2999-01-01 00:00"},
	} {
		if _, said, err := add(args...); err == nil || !strings.Contains(said, want) {
			t.Errorf("%v: %v, %s", args, err, said)
		}
	}
	if out := c.does("expect", "list"); strings.Contains(out, "x\t") {
		t.Errorf("list says\n%s", out)
	}
	for name, at := range map[string]string{"known": "2019-01-01 00:00", "old": "2020-01-01 00:00", "new": time.Now().Add(48 * time.Hour).Format("2006-01-02 15:04")} {
		if _, said, err := add(name, "--rule", "out", "--partner", "hostb", "--file", name+"-*.csv", "--at", at, "--expire", "9999d"); err != nil {
			t.Error(said)
		}
	}
	if _, said, err := add("old", "--rule", "out", "--partner", "hostb", "--file", "x", "--at", "2999-01-01 00:00"); err == nil || !strings.Contains(said, "already") {
		t.Errorf("%v, %s", err, said)
	}
	c.until("they are late", func() bool { return strings.Contains(c.does("expect", "list"), "\nold\tlate\t20") })
	if _, said, err := c.pannier("expect", "acknowledge", "known", "--due", "2018-01-01 00:00"); err == nil || !strings.Contains(said, "the oldest was due at 2019") {
		t.Errorf("%v, %s", err, said)
	}
	if out := c.does("expect", "acknowledge", "known", "--due", "2019-01-01 00:00"); !strings.Contains(out, "\nknown\tacknowledged\t-\t") {
		t.Errorf("it says\n%s", out)
	}
	if _, said, err := c.pannier("expect", "acknowledge", "known"); err == nil || !strings.Contains(said, "none is late") {
		t.Errorf("%v, %s", err, said)
	}
	c.a.Kill()
	c.start(c.a)
	if out := c.does("expect", "list"); !strings.Contains(out, "REQUEST\nold\tlate\t20") || !strings.Contains(out, "\nnew\tawaited\t-\t20") {
		t.Errorf("after a start list says\n%s", out)
	}
	if out := c.does("--config", c.a.Config(), "audit", "show"); strings.Count(out, "expected file late") != 2 || strings.Count(out, "AcknowledgeExpected") != 3 {
		t.Errorf("audit has\n%s", out)
	}
	if out := c.does("--config", c.a.Config(), "audit", "show", "--on", "known"); !strings.Contains(out, "\tAcknowledgeExpected\tknown\t") || strings.Contains(out, "\told\t") {
		t.Errorf("about known audit has\n%s", out)
	}
	for _, name := range []string{"old", "new"} {
		if err := os.WriteFile(filepath.Join(c.b.Root, name+"-1.csv"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := c.client(c.b).Submit(t.Context(), &adminpb.SubmitRequest{Partner: "hosta", Rule: "out", Source: name + "-1.csv"}); err != nil {
			t.Fatal(err)
		}
	}
	c.until("both have come", func() bool {
		out := c.does("expect", "list")
		return strings.Contains(out, "old\tcame late\t") && strings.Contains(out, "new\tin time\t")
	})
	for _, name := range []string{"known", "old", "new"} {
		c.does("expect", "remove", name)
	}
	if _, said, err := c.pannier("expect", "remove", "old"); err == nil || !strings.Contains(said, `no expect "old"`) {
		t.Errorf("%v, %s", err, said)
	}
}
