package peer

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
)

// steps are those of a record, with every field set.
func steps() engine.Steps {
	at := func(n int) time.Time { return time.Unix(1800000000, int64(n)).UTC() }
	x := engine.Steps{
		Side: lifecycle.Receiver, State: lifecycle.InError, Phase: lifecycle.Post, Failing: true, Reason: "retrying", Attempt: 3, Rank: 70, Size: 90,
		Failure: lifecycle.Failure{Kind: fault.Refused, Side: fault.Here, Cause: "post task 2 has failed", At: at(9)},
		All:     [3]uint8{1, 255, 2}, Done: [3]uint8{1, 1, 0}, Changed: at(11), Clock: at(10),
		Tasks: []engine.TaskRun{{List: lifecycle.PreList, Number: 1, Began: at(1), Ended: at(2)}, {List: lifecycle.PostList, Number: 255, Began: at(4), Ended: at(5), Failed: true}, {List: lifecycle.ErrorList, Number: 1, Began: at(6)}},
	}
	x.Reached[lifecycle.Accepted], x.Reached[lifecycle.Moving], x.Reached[lifecycle.Post] = at(0), at(3), at(4)
	return x
}

// TestSteps: what an end tells of its steps arrives, and the node asked learns for whom.
func TestSteps(t *testing.T) {
	for _, scheme := range carriers {
		p := start(t, scheme)
		want, key := steps(), lifecycle.Key{Requester: "lyon", ID: id(1)}
		p.fake.steps = func(partner string, k lifecycle.Key, role lifecycle.Role) (engine.Steps, error) {
			if partner != "lyon" || k != key || role != lifecycle.Requested {
				t.Errorf("asked by %s for %v, %v", partner, k, role)
			}
			return want, nil
		}
		got, err := p.line.Steps(within(t), "paris", key, lifecycle.Requested)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", scheme, got, err)
		}
		p.fake.full = true
		if _, err := p.line.Steps(within(t), "paris", key, lifecycle.Requested); fault.KindOf(err) != fault.Overloaded {
			t.Errorf("without a place: %v", err)
		}
		p.fake.full = false
		p.fake.steps = func(string, lifecycle.Key, lifecycle.Role) (engine.Steps, error) {
			return engine.Steps{}, fault.New("find request", fault.NotFound, "not here, but in %s", "/secret")
		}
		if _, err := p.line.Steps(within(t), "paris", key, lifecycle.Requested); fault.KindOf(err) != fault.NotFound || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", scheme, err)
		}
		if err := p.line.invoke(within(t), "paris", "/pannier.peer.v1.Peer/Other", &peerpb.StepsAsk{}, new(peerpb.StepsReply)); fault.KindOf(err) != fault.Unsupported {
			t.Errorf("%s: what a node does not serve, as one from before Steps: %v", scheme, err)
		}
		if p.fake.inside != 0 {
			t.Errorf("%d places are still taken", p.fake.inside)
		}
	}
}

// TestFailureOfSteps: of what the other end kept for itself is told where it is.
func TestFailureOfSteps(t *testing.T) {
	m := writeSteps(&engine.Steps{Side: lifecycle.Receiver, State: lifecycle.InError, Phase: lifecycle.Post, Size: 1, Failure: lifecycle.Failure{Kind: fault.Refused, Cause: "refused: ...: ..."}})
	if x, err := readSteps(m); err != nil || x.Failure.Cause != "the log there says more" {
		t.Errorf("%q, %v", x.Failure.Cause, err)
	}
}

// TestHostileSteps: everything out of bounds is refused, in questions as Invalid, in answers as Protocol.
func TestHostileSteps(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for what, c := range map[string]struct {
		change func(*peerpb.StepsAsk)
		good   bool
	}{
		"as it is":           {func(*peerpb.StepsAsk) {}, true},
		"no requester":       {func(m *peerpb.StepsAsk) { m.Requester = "" }, false},
		"longest requester":  {func(m *peerpb.StepsAsk) { m.Requester = long(64) }, true},
		"long requester":     {func(m *peerpb.StepsAsk) { m.Requester = long(65) }, false},
		"requester no UTF-8": {func(m *peerpb.StepsAsk) { m.Requester = "\xff" }, false},
		"no id":              {func(m *peerpb.StepsAsk) { m.Id = nil }, false},
		"short id":           {func(m *peerpb.StepsAsk) { m.Id = m.Id[:15] }, false},
		"no role":            {func(m *peerpb.StepsAsk) { m.Role = 0 }, false},
		"role 3":             {func(m *peerpb.StepsAsk) { m.Role = 3 }, false},
		"role 257":           {func(m *peerpb.StepsAsk) { m.Role = 257 }, false},
		"role -1":            {func(m *peerpb.StepsAsk) { m.Role = -1 }, false},
	} {
		m := writeStepsAsk(lifecycle.Key{Requester: "lyon", ID: id(1)}, lifecycle.Requester)
		c.change(m)
		if _, _, err := readStepsAsk(m); (err == nil) != c.good || err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, c := range map[string]struct {
		change func(*peerpb.StepsReply)
		good   bool
	}{
		"as it is":              {func(*peerpb.StepsReply) {}, true},
		"nothing":               {func(m *peerpb.StepsReply) { proto.Reset(m) }, false},
		"no side":               {func(m *peerpb.StepsReply) { m.Side = 0 }, false},
		"side 258":              {func(m *peerpb.StepsReply) { m.Side = 258 }, false},
		"no state":              {func(m *peerpb.StepsReply) { m.State = 0 }, false},
		"state 6":               {func(m *peerpb.StepsReply) { m.State = 6 }, false},
		"state 257":             {func(m *peerpb.StepsReply) { m.State = 257 }, false},
		"phase unknown":         {func(m *peerpb.StepsReply) { m.Phase = 0 }, false},
		"phase 10":              {func(m *peerpb.StepsReply) { m.Phase = 10 }, false},
		"phase 259":             {func(m *peerpb.StepsReply) { m.Phase = 259 }, false},
		"rank -1":               {func(m *peerpb.StepsReply) { m.Rank = -1 }, false},
		"size -2":               {func(m *peerpb.StepsReply) { m.Size = -1 }, false},
		"size unknown":          {func(m *peerpb.StepsReply) { m.Size = 0 }, true},
		"long reason":           {func(m *peerpb.StepsReply) { m.Reason = long(65) }, false},
		"reason no UTF-8":       {func(m *peerpb.StepsReply) { m.Reason = "\xff" }, false},
		"long cause":            {func(m *peerpb.StepsReply) { m.Failure.Cause = long(1025) }, false},
		"failure of side 3":     {func(m *peerpb.StepsReply) { m.Failure.Side = 3 }, false},
		"no failure":            {func(m *peerpb.StepsReply) { m.Failure = nil }, true},
		"two lists":             {func(m *peerpb.StepsReply) { m.All = m.All[:2] }, false},
		"four lists":            {func(m *peerpb.StepsReply) { m.Done = append(m.Done, 0) }, false},
		"no lists":              {func(m *peerpb.StepsReply) { m.All, m.Done = nil, nil }, false},
		"more done than are":    {func(m *peerpb.StepsReply) { m.Done[0] = 2 }, false},
		"reached no phase":      {func(m *peerpb.StepsReply) { m.Reached[0].Phase = 0 }, false},
		"reached phase -1":      {func(m *peerpb.StepsReply) { m.Reached[0].Phase = -1 }, false},
		"reached it twice":      {func(m *peerpb.StepsReply) { m.Reached[1].Phase = m.Reached[0].Phase }, false},
		"reached what is ahead": {func(m *peerpb.StepsReply) { m.Reached[2].Phase = m.Phase + 1 }, false},
		"reached a large one":   {func(m *peerpb.StepsReply) { m.Phase, m.Reached[2].Phase = 9, 1<<20 }, false},
		"reached nothing":       {func(m *peerpb.StepsReply) { m.Reached = nil }, true},
		"a hole for a phase":    {func(m *peerpb.StepsReply) { m.Reached[0] = nil }, false},
		"a task of no list":     {func(m *peerpb.StepsReply) { m.Tasks[0].List = 0 }, false},
		"a task of list 4":      {func(m *peerpb.StepsReply) { m.Tasks[0].List = 4 }, false},
		"a task of list 257":    {func(m *peerpb.StepsReply) { m.Tasks[0].List = 257 }, false},
		"task 0":                {func(m *peerpb.StepsReply) { m.Tasks[0].Number = 0 }, false},
		"task 256":              {func(m *peerpb.StepsReply) { m.Tasks[0].Number = 256 }, false},
		"a hole for a task":     {func(m *peerpb.StepsReply) { m.Tasks[0] = nil }, false},
		"as many as may be":     {func(m *peerpb.StepsReply) { m.Tasks = many(m.Tasks[0], 200) }, true},
		"a task too many":       {func(m *peerpb.StepsReply) { m.Tasks = many(m.Tasks[0], 201) }, false},
		"times at the ends": {func(m *peerpb.StepsReply) {
			m.Time, m.Reached[0].At, m.Tasks[0].Began = math.MinInt64, math.MaxInt64, -1
		}, true},
	} {
		x := steps()
		m := writeSteps(&x)
		c.change(m)
		if _, err := readSteps(m); (err == nil) != c.good || err != nil && fault.KindOf(err) != fault.Protocol {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func many(t *peerpb.TaskRun, n int) (all []*peerpb.TaskRun) {
	for range n {
		all = append(all, t)
	}
	return all
}

// FuzzSteps: whatever arrives is refused as it should be, or travels on unchanged.
func FuzzSteps(f *testing.F) {
	x := steps()
	f.Add(must(proto.Marshal(writeSteps(&x))))
	f.Add(must(proto.Marshal(writeStepsAsk(lifecycle.Key{Requester: "lyon", ID: id(1)}, lifecycle.Requested))))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m peerpb.StepsReply
		if proto.Unmarshal(b, &m) == nil {
			x, err := readSteps(&m)
			if err != nil && fault.KindOf(err) != fault.Protocol {
				t.Fatal(err)
			}
			if err == nil {
				if again, err := readSteps(writeSteps(&x)); err != nil || !reflect.DeepEqual(again, x) {
					t.Fatalf("%+v came back as %+v, %v", x, again, err)
				}
			}
		}
		var a peerpb.StepsAsk
		if proto.Unmarshal(b, &a) != nil {
			return
		}
		key, role, err := readStepsAsk(&a)
		if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Fatal(err)
		}
		if again, r, e := readStepsAsk(writeStepsAsk(key, role)); err == nil && (e != nil || again != key || r != role) {
			t.Fatalf("%v, %v came back as %v, %v, %v", key, role, again, r, e)
		}
	})
}
