package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// poisonStarts is how many processes the request ends, the first of which has brought it as far as its task.
// poisonMost is how many the check gives it.
const (
	poisonStarts = 3
	poisonMost   = 8
)

var poison = check{
	id: 22, title: "a request whose task kills the daemon each time: after 3 of them without progress it is an operator's, all others are done",
	unit: "daemons ended", n: counts{reduced: 20, full: 200},
	mutant: "a death is not counted",
	edits:  []edit{{"engine/lifecycle/event.go", "	r.Deaths++\n", "	if !mutant(\"22\") {\n		r.Deaths++\n	}\n"}},
	run:    runPoison,
}

func runPoison(ctx context.Context, j *job) (result, error) {
	f, err := newFleet(j.dir, 2)
	if err != nil {
		return result{}, err
	}
	defer f.close()
	kill := argvOf("", "/bin/sh", "-c", `test "$0" != poison || kill -9 $PPID; sleep 0.05`, "{info}")
	if err := f.write([]string{"concurrent = 4"}, []string{"concurrent = 4"}, pushRule("push", "sender = { pre = ["+kill+"] }\nretry = { delay = \"1s\" }")); err != nil {
		return result{}, err
	}
	if err := f.start(ctx); err != nil {
		return result{}, err
	}
	if err := zeroFile(f.all[0], "file", 1000); err != nil {
		return result{}, err
	}
	var ids []string
	var bad string
	a := f.all[0]
	for i := range j.n {
		info := "good"
		if i == j.n-1 {
			info = "poison"
		}
		id, err := f.submit(ctx, f.all[1], "push", "file", fmt.Sprint(i), info)
		if err != nil {
			return result{}, err
		}
		ids, bad = append(ids, id), id
	}
	var w note
	deaths := 0
	final := func() error {
		for _, id := range ids {
			if _, err := ended(ctx, a, id); err != nil {
				return err
			}
		}
		return nil
	}
	for final() != nil && deaths < poisonMost && ctx.Err() == nil {
		select {
		case <-a.Ended():
		case <-time.After(30 * time.Second):
			w.add("the daemon lives, and a request does not end")
		}
		deaths++
		a.Kill()
		if err := a.Start(ctx); err != nil {
			select {
			case <-a.Ended(): // so soon
				continue
			default:
				return result{}, err
			}
		}
	}
	c, err := a.Client()
	if err != nil {
		return result{}, err
	}
	done := 0
	for _, id := range ids {
		r, err := c.Get(ctx, &adminpb.Ref{Id: id})
		switch {
		case id == bad && (err != nil || r.GetState() != adminpb.Request_INERROR || r.GetFailure().GetKind() != uint32(fault.Internal)):
			w.add("the one that kills is %v: %s, %v", r.GetState(), r.GetFailure().GetCause(), err)
		case id == bad:
		case err != nil || r.GetState() != adminpb.Request_DONE:
			w.add("%v: %s, %v", r.GetState(), r.GetFailure().GetCause(), err)
		default:
			done++
		}
	}
	if deaths != poisonStarts {
		w.add("%d daemons ended", deaths)
	}
	return w.result(float64(deaths), "%d of %d others done", done, len(ids)-1), nil
}
