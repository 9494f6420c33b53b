package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

const killTitle = "at random points of transfers between two daemons, both directions, with tasks before and after: all finish and are identical, "

var killReceiver = check{
	id: 1, title: "kill -9 of the receiver " + killTitle + "no more is sent again than a window, a sync interval and a block",
	unit: "MiB sent again, most", n: counts{reduced: 4, full: 200, control: 3},
	mutant: "each attempt begins at the first byte",
	edits:  []edit{{"sideeffect/identity.go", "if !ok || !d.Resume", `if mutant("1") || !ok || !d.Resume`}},
	run: func(ctx context.Context, j *job) (result, error) {
		return runKills(ctx, j, func(sender, receiver *nodetest.Node, i int) []*nodetest.Node { return []*nodetest.Node{receiver} })
	},
}

var killSender = check{
	id: 3, title: "kill -9 of the sender, then of both, " + killTitle + "no source is deleted before the receiver has finished, no recorded task runs again",
	unit: "MiB sent again, most", n: counts{reduced: 4, full: 200, control: 1},
	mutant: "the sender takes the receiver for POSTED when it has all bytes",
	edits:  []edit{{"engine/bytes.go", "x.peer = max(x.peer, lifecycle.Whole)", `if x.peer = max(x.peer, lifecycle.Whole); mutant("3") { x.peer = lifecycle.Posted }`}},
	run: func(ctx context.Context, j *job) (result, error) {
		return runKills(ctx, j, func(sender, receiver *nodetest.Node, i int) []*nodetest.Node {
			if i/2%2 == 0 {
				return []*nodetest.Node{sender}
			}
			return []*nodetest.Node{sender, receiver}
		})
	},
}

// killed is one run of the kill checks.
type killed struct {
	duo
	note
	content []byte
	tasks   string // where tasks write that they have run
	limit   int64  // bytes that may be sent again
	again   []int64
	ended   int // transfers with a kill that came to their end
	within  int // kills while bytes moved
}

// Sizes of a transfer and its sync interval. In full they are those of a default
// configuration, else as small as shows the same.
const (
	killSize, killSync         = 32 * mib, 2 * mib
	killFullSize, killFullSync = 1024 * mib, sideeffect.DefaultSyncEvery
)

func runKills(ctx context.Context, j *job, victims func(sender, receiver *nodetest.Node, i int) []*nodetest.Node) (result, error) {
	size, o := killSize, duoSettings{every: killSync, window: mib}
	if j.full {
		size, o = killFullSize, duoSettings{every: killFullSync, window: 16 * mib}
	}
	tasks := filepath.Join(j.dir, "tasks")
	say := func(when string) string {
		return fmt.Sprintf(`{ task = "exec", argv = ["/bin/sh", "-c", "echo $PANNIER_ID $PANNIER_SIDE %s >>%s; sleep 0.02"] }`, when, tasks)
	}
	o.tasks = fmt.Sprintf("pre = [%s]\nsender = { post = [%s, { task = \"delete\" }] }\nreceiver = { post = [%s] }\n", say("pre"), say("post"), say("post"))
	d, err := newDuo(ctx, j.dir, o)
	if err != nil {
		return result{}, err
	}
	k := &killed{duo: *d, content: content(j.rnd, size), tasks: tasks, limit: o.window + o.every + 256*flow.KiB}
	took := map[string]time.Duration{}
	for i := -2; i < j.n && err == nil; i++ { // the first two are not killed, and say how long one takes
		rule := []string{"push", "pull"}[(i+2)%2]
		sender, receiver := k.a, k.b
		if rule == "pull" {
			sender, receiver = k.b, k.a
		}
		began := time.Now()
		var who []*nodetest.Node
		if i >= 0 {
			who = victims(sender, receiver, i)
		}
		at := time.Duration(j.rnd.Int64N(int64(took[rule] + 1)))
		err = k.round(ctx, rule, sender, receiver, who, at)
		if i < 0 {
			took[rule] = time.Since(began)
		}
	}
	if closeErr := k.close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return result{}, err
	}
	var most, median int64
	if slices.Sort(k.again); len(k.again) > 0 {
		most, median = k.again[len(k.again)-1], k.again[len(k.again)/2]
	}
	return k.result(float64(most)/mib, "%d of %d finished, %d were killed while bytes moved; sent again: median %.1f, most %.1f, limit %.1f MiB of %d",
		k.ended, j.n, k.within, float64(median)/mib, float64(most)/mib, float64(k.limit)/mib, size/mib), nil
}

// round is one transfer, in which nodes are killed after a time.
func (k *killed) round(ctx context.Context, rule string, sender, receiver *nodetest.Node, victims []*nodetest.Node, after time.Duration) error {
	const name = "file"
	source, target := filepath.Join(sender.Root, name), filepath.Join(receiver.Root, name)
	if err := os.WriteFile(source, k.content, 0o644); err != nil {
		return fault.Wrap("write source", source, err)
	}
	from := [2]int64{sizeOf(k.logs[0]), sizeOf(k.logs[1])}
	id, err := k.submit(ctx, k.a, rule, name)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s, %s killed after %v", rule, names(victims), after)
	done, begun := map[string]int{}, map[string]int{}
	var partial int64 = -1
	if len(victims) > 0 {
		time.Sleep(after)
		for _, n := range victims {
			n.Kill()
		}
		if fi, err := os.Stat(partialOf(receiver.Root, name)); err == nil {
			partial = fi.Size()
			k.within++
		}
		for _, n := range []*nodetest.Node{sender, receiver} {
			var durable int64
			if slices.Contains(victims, n) {
				durable, err = k.remembered(ctx, n, id, done, begun)
			} else {
				durable, err = safeAt(ctx, n, id)
			}
			if err != nil {
				return err
			}
			what += fmt.Sprintf(", %s had %.2f MiB as durable", n.Name, float64(durable)/mib)
		}
		for _, n := range victims {
			if err := n.Start(ctx); err != nil {
				return err
			}
		}
	}
	if err := k.finish(ctx, k.a, id); err != nil {
		k.add("%s: %v; %s", what, err, k.standing(ctx, id))
		return k.inOrder(id)
	}
	if len(victims) > 0 {
		k.ended++
	}
	k.mustEqual(what, target, k.content)
	if _, err := os.Stat(source); err == nil {
		k.add("the source is still there")
	}
	if err := k.ran(id, done, begun); err != nil {
		return err
	}
	again, written, err := k.sentAgain(id, sender, slices.Contains(victims, sender), slices.Contains(victims, receiver), partial, from)
	if err != nil {
		return err
	}
	if len(victims) > 0 {
		k.again = append(k.again, again)
		if again > k.limit {
			k.add("%s: %.1f MiB were sent again; the partial file had %.2f, written then: %v", what, float64(again)/mib, float64(partial)/mib, written)
		}
	}
	return fault.Wrap("remove target", target, os.Remove(target))
}

func names(nodes []*nodetest.Node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Name)
	}
	return strings.Join(all, " and ")
}

// safeAt is how many bytes a node that runs knows to be durable.
func safeAt(ctx context.Context, n *nodetest.Node, id string) (int64, error) {
	r, err := get(ctx, n, id)
	return max(r.GetDurable(), r.GetLive().GetDurable()), err
}

// standing is how far both ends are.
func (k *killed) standing(ctx context.Context, id string) (words string) {
	for _, n := range []*nodetest.Node{k.a, k.b} {
		r, err := get(ctx, n, id)
		words += fmt.Sprintf("%s is %v in %v, %.2f MiB are durable, %v %s %v ", n.Name, r.GetState(), r.GetPhase(), float64(r.GetDurable())/mib, r.GetReason(), r.GetFailure().GetCause(), err)
	}
	return strings.TrimSpace(words)
}

// remembered notes which tasks the record of a killed node has as done, with how
// often they have run, and which of them had begun. It returns how many bytes are durable by it.
func (k *killed) remembered(ctx context.Context, n *nodetest.Node, id string, done, begun map[string]int) (int64, error) {
	r, err := recordOf(ctx, n, id)
	if fault.KindOf(err) == fault.NotFound {
		return 0, nil // it has not heard of the request
	}
	if err != nil {
		return 0, err
	}
	runs, _, err := k.runs(id)
	if err != nil {
		return 0, err
	}
	for list, when := range map[lifecycle.List]string{lifecycle.PreList: "pre", lifecycle.PostList: "post"} {
		task := r.Side.String() + " " + when
		if r.Tasks[list] > 0 {
			done[task] = runs[task]
		}
	}
	if key, ok := r.NextTask(); ok && r.Begun == r.Epoch && key.Index == 0 {
		begun[r.Side.String()+" "+map[lifecycle.List]string{lifecycle.PreList: "pre", lifecycle.PostList: "post"}[key.List]]++
	}
	return r.Rank, nil
}

// runs is how often the tasks of a request have run, and in which order.
func (k *killed) runs(id string) (count map[string]int, order []string, err error) {
	text, err := os.ReadFile(k.tasks)
	if err != nil && !os.IsNotExist(err) {
		return nil, nil, fault.Wrap("read what tasks have run", "", err)
	}
	count = map[string]int{}
	for line := range strings.Lines(string(text)) {
		if task, ok := strings.CutPrefix(strings.TrimSpace(line), id+" "); ok {
			count[task]++
			order = append(order, task)
		}
	}
	return count, order, nil
}

// ran judges how often tasks have run, and when.
func (k *killed) ran(id string, done, begun map[string]int) error {
	count, _, err := k.runs(id)
	if err != nil {
		return err
	}
	for _, task := range []string{"sender pre", "sender post", "receiver pre", "receiver post"} {
		if n, recorded := done[task]; recorded && count[task] != n {
			k.add("the %s task was recorded done, and has run again", task)
		}
		if n := count[task]; n < 1 || n > 1+begun[task] {
			k.add("the %s task has run %d times, %d kills were within it", task, n, begun[task])
		}
	}
	return k.inOrder(id)
}

// inOrder judges whether the receiver has finished before the sender deletes the source.
func (k *killed) inOrder(id string) error {
	_, order, err := k.runs(id)
	early := slices.Index(order, "sender post")
	if early >= 0 && !slices.Contains(order[:early], "receiver post") || slices.Contains(order[early+1:], "receiver post") && early >= 0 {
		k.add("the sender's post tasks, which delete the source, have begun before the receiver's have ended")
	}
	return err
}

// sentAgain is how many bytes of a request were sent more than once, as far as
// the ends that have lived know: the sender by what it has sent, the receiver by
// what it has written; and, of a receiver that was killed, by the partial file that it has left. written are the
// receiver's attempts that it has lived to tell of.
func (k *killed) sentAgain(id string, sender *nodetest.Node, senderDied, receiverDied bool, partial int64, from [2]int64) (again int64, written []move, err error) {
	at := map[bool]int{true: 0, false: 1}
	sent, err := moves(k.logs[at[sender == k.a]], id, from[at[sender == k.a]])
	if err != nil {
		return 0, nil, err
	}
	written, err = moves(k.logs[at[sender != k.a]], id, from[at[sender != k.a]])
	if err != nil {
		return 0, nil, err
	}
	size := int64(len(k.content))
	var wire, stored int64
	for _, m := range sent {
		wire += m.wire
	}
	for _, m := range written {
		stored += m.to - m.from
	}
	if !senderDied {
		again = wire - size
	}
	again = max(again, stored-size)
	if receiverDied && len(written) > 0 && partial >= 0 {
		again = max(again, partial-written[len(written)-1].from)
	}
	return again, written, nil
}
