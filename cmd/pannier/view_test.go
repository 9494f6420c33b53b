package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

var (
	people   = view{people: true, now: noon}
	programs = view{now: noon}
)

func ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(noon.Add(-d)) }

// someRequests are one of each sort.
func someRequests() []*adminpb.Request {
	return []*adminpb.Request{
		{Id: "3f2a1b2c" + strings.Repeat("0", 24), Side: adminpb.Request_SENDER, Partner: "hostb", Rule: "out", Source: "report.pdf", State: adminpb.Request_RUNNING,
			Step: "TRANSFERTASK", Attempt: 1, Size: 3 << 20, Durable: 1 << 20, Changed: ago(4 * time.Second)},
		{Id: "4a" + strings.Repeat("0", 30), Side: adminpb.Request_RECEIVER, Partner: "branch", Rule: "in", Target: "bad\u202ename \"x\"", State: adminpb.Request_INERROR,
			Step: "POSTTASK", Attempt: 5, Size: 10, Durable: 10, Changed: ago(90 * time.Minute),
			Failure: &adminpb.Failure{Kind: uint32(fault.NoSpace), Name: "no space", Side: "peer", Cause: "disk of /srv is full\n\x1b[31m"}},
		{Id: "5b" + strings.Repeat("0", 30), Side: adminpb.Request_SENDER, Partner: "hostb", Rule: "out", Source: strings.Repeat("long/", 20) + "name", State: adminpb.Request_TOSUBMIT,
			Step: "NOTASK", Size: -1, Changed: ago(72 * time.Hour)},
	}
}

// shown is a table as a terminal of that width shows it.
func shown(t *testing.T, table command.Table, width int) string {
	t.Helper()
	var b strings.Builder
	if err := table.WriteTerminal(&b, width); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestTablesOnTerminal: short, aligned, and no wider than the terminal; nothing that it
// would obey.
func TestTablesOnTerminal(t *testing.T) {
	const requests = `ID        DIR  PARTNER  RULE  FILE                     SIZE  DONE  STATE     STEP          ATTEMPT  CHANGED  ERROR
3f2a1b2c  →    hostb    out   report.pdf            3.0 MiB   33%  RUNNING   TRANSFERTASK        1  4s ago
4a000000  ←    branch   in    "bad\u202ename \"x\…     10 B  100%  INERROR   POSTTASK            5  1h ago   no space at the part…
5b000000  →    hostb    out   long/long/long/long…        -     -  TOSUBMIT  NOTASK              0  3d ago
`
	if got := shown(t, requestTable(people, someRequests()), 130); got != requests {
		t.Errorf("\n%s\nwant\n%s", got, requests)
	}
	const partners = `NAME    ADDRESS      STATE              RTT  RUNNING  QUEUED  ERROR
branch  -            idle                 -        0       0
hostb   tls://hostb  down, again in 9m    -        1       2  connection lost: no route
`
	down := []*adminpb.Partner{{Name: "branch"}, {Name: "hostb", Address: "tls://hostb", Running: 1, Queued: 2, RetryAt: ago(-9 * time.Minute),
		Failure: &adminpb.Failure{Name: "connection lost", Cause: "no route"}}}
	if got := shown(t, partnerTable(people, down), 0); got != partners {
		t.Errorf("\n%s\nwant\n%s", got, partners)
	}
}

// TestTablesElsewhere: everything, exactly.
func TestTablesElsewhere(t *testing.T) {
	var b strings.Builder
	if err := requestTable(programs, someRequests()).Write(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	at := noon.Add(-90 * time.Minute).UTC().Format("2006-01-02T15:04:05.000Z")
	want := "4a" + strings.Repeat("0", 30) + "\treceiver\tbranch\tin\t\"bad\\u202ename \\\"x\\\"\"\t10\t100%\tINERROR\tPOSTTASK\t5\t" + at + `	no space at the partner: disk of /srv is full\n\x1b[31m`
	if len(lines) != 5 || lines[2] != want {
		t.Errorf("%q\nwant\n%q", lines[2], want)
	}
}

func TestShown(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{people.bytes(-1), "-"}, {people.bytes(2048), "2.0 KiB"}, {programs.bytes(2048), "2048"},
		{people.time(nil), "-"}, {people.time(ago(-90 * time.Second)), "in 2m"}, {people.time(ago(0)), "0s ago"}, {people.time(ago(47 * time.Hour)), "47h ago"},
		{people.id("0123456789"), "01234567"}, {programs.id("0123456789"), "0123456789"}, {people.id("0123"), "0123"},
		{people.file("a b"), "a b"}, {people.file(" a"), `" a"`}, {people.file(""), "-"}, {people.file("-"), `"-"`}, {people.file("a\tb"), `"a\tb"`},
		{people.file(`a"b`), `"a\"b"`}, {people.file("ä→"), "ä→"}, {people.file("\xff"), `"\xff"`}, {people.file(`a\b`), `"a\\b"`},
		{rtt(&adminpb.Partner{}), "-"}, {rtt(&adminpb.Partner{Rtt: durationpb.New(1500 * time.Microsecond)}), "1.5ms"},
		{percent(&adminpb.Request{Size: -1}), "-"}, {percent(&adminpb.Request{Size: 10, Durable: 10}), "100%"}, {percent(&adminpb.Request{Size: 1000, Durable: 999}), "99%"}, {percent(&adminpb.Request{}), "0%"},
		{percent(&adminpb.Request{Size: 10, State: adminpb.Request_DONE}), "100%"},
		{percent(&adminpb.Request{Size: -1, Live: &adminpb.Live{Durable: 5, Total: 10}}), "50%"},
		{span(0), "1s"}, {span(59 * time.Second), "59s"}, {span(time.Minute), "1m0s"}, {span(81 * time.Second), "1m21s"}, {span(25*time.Hour + 61*time.Second), "25h1m"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// TestJSONIsAlwaysTheSame: protojson varies its spaces; programs compare lines.
func TestJSONIsAlwaysTheSame(t *testing.T) {
	const want = `{"counts":{"records":"9007199254740993","files":"0","digests":"0","bytes":"0","skipped":"0","warnings":"0","errors":"0"}}` + "\n"
	for range 50 {
		var b strings.Builder
		if err := writeJSON(&b, &adminpb.CheckReply{Counts: &adminpb.CheckCounts{Records: 1<<53 + 1}}); err != nil || b.String() != want {
			t.Fatalf("%v %q", err, b.String())
		}
	}
}

// TestEveryKindOfFailure: the exit code of a request that has failed is that of its
// failure, but a cancelled request is not an interrupted command, nor is what an own
// task refuses refused by the partner.
func TestEveryKindOfFailure(t *testing.T) {
	for _, k := range append(fault.Kinds(), 0, 999) {
		r := &adminpb.Request{Id: "aabbccdd00", State: adminpb.Request_INERROR, Failure: &adminpb.Failure{Kind: uint32(k), Side: "peer", Cause: "why"}}
		err := failureOf(r)
		want := command.Code(t.Context(), fault.New("x", k, "y"))
		switch k {
		case fault.Canceled:
			want = command.Cancelled
		case fault.Invalid, fault.TooLong: // which is no wrong use of the command
			want = command.Refused
		}
		if got := command.Code(t.Context(), err); got != want || !strings.Contains(command.Suggestions(err), "pannier explain aabbccdd") {
			t.Errorf("%v: %d, want %d: %v", k, got, want, err)
		}
	}
	own := &adminpb.Request{State: adminpb.Request_INERROR, Failure: &adminpb.Failure{Kind: uint32(fault.Refused), Side: "here", Cause: "why"}}
	if got := command.Code(t.Context(), failureOf(own)); got != command.TaskFailed {
		t.Errorf("an own task's refusal: %d", got)
	}
	for want, phase := range map[int]string{command.TaskFailed: "PRE", command.Failed: "MOVING"} {
		own.Failure.Kind, own.Phase, own.Tasks = uint32(fault.Invalid), phase, []*adminpb.TaskCount{{List: "pre", All: 1}}
		if got := command.Code(t.Context(), failureOf(own)); got != want {
			t.Errorf("what is wrong in %s: %d, want %d", phase, got, want)
		}
	}
	for s := range adminpb.Request_State_name {
		if adminpb.Request_State(s) != adminpb.Request_INERROR {
			if err := failureOf(&adminpb.Request{State: adminpb.Request_State(s)}); err != nil {
				t.Error(s, err)
			}
		}
	}
}

func TestFields(t *testing.T) {
	var f fields
	f.add("a", "1")
	f.add("none", "")
	f.add("long name", "x\ny\x1b")
	var b strings.Builder
	if err := f.write(&b); err != nil || b.String() != "a\t1\nlong name\tx\\ny\\x1b\n" {
		t.Errorf("%v %q", err, b.String())
	}
}

// TestNearly: a time to come is rounded, not cut.
func TestNearly(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]string{
		2*time.Hour - time.Second: "in 2h", time.Minute - 100*time.Millisecond: "in 1m", time.Hour - 20*time.Second: "in 1h", 90 * time.Minute: "in 2h", 80 * time.Minute: "in 1h",
		48*time.Hour - time.Minute: "in 2d", 10 * time.Second: "in 10s", 47 * time.Hour: "in 47h", 10 * time.Millisecond: "in 0s",
	} {
		if got := (view{people: true, now: now}).time(timestamppb.New(now.Add(d))); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
