package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

const (
	descriptorLimit = 64
	descriptorPeers = 200
	descriptorSize  = mib // of each file; at descriptorRate in all a few seconds each
)

var descriptors = check{
	id: 27, title: "a daemon with 64 descriptors and 200 connections that say one byte: transfers that run finish in their attempt, what comes meanwhile is done afterwards, a new partner gets in, accepting waits between attempts, the store does not fail",
	unit: "accepts that failed, a second", n: counts{reduced: 3, full: 30},
	mutant: "accepting does not wait after a failure",
	edits:  []edit{{"flow/carrier/listener.go", "			l.pause(backoff)\n", "			if !mutant(\"27\") {\n				l.pause(backoff)\n			}\n"}},
	run:    runDescriptors,
}

func runDescriptors(ctx context.Context, j *job) (result, error) {
	f, err := newFleet(j.dir, 3)
	if err != nil {
		return result{}, err
	}
	defer f.close()
	victim := f.all[1]
	// Four files take as long as the flood.
	rate := fmt.Sprintf("bandwidth = \"%dKiB/s\"", 4*descriptorSize/j.n>>10)
	if err := f.write(nil, []string{rate}, pushRule("push", "retry = { attempts = 1000, delay = \"1s\", factor = 1 }")); err != nil {
		return result{}, err
	}
	for _, n := range f.all {
		var wrap []string
		if n == victim {
			wrap = []string{"prlimit", fmt.Sprintf("--nofile=%d", descriptorLimit)}
		}
		if err := n.Start(ctx, wrap...); err != nil {
			return result{}, err
		}
		if err := zeroFile(n, "file", descriptorSize); err != nil {
			return result{}, err
		}
	}
	var w note
	under, err := f.four(ctx, "before")
	if err != nil {
		return result{}, err
	}
	if err := f.moving(ctx, under); err != nil {
		return result{}, err
	}
	flooding, stop := context.WithCancel(ctx)
	var peers sync.WaitGroup
	for i := range descriptorPeers {
		peers.Go(func() { beSilent(flooding, strings.TrimPrefix(victim.Address, "tls://"), i) })
	}
	began, most := time.Now(), 0
	var meanwhile []string
	for time.Since(began) < time.Duration(j.n)*time.Second {
		most = max(most, filesOf(victim.PID()))
		if meanwhile == nil && time.Since(began) > time.Second {
			if meanwhile, err = f.four(ctx, "meanwhile"); err != nil {
				break
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	failed := strings.Count(f.log(1), "accept failed")
	lasted := time.Since(began)
	f.check(ctx, under, 1, "under way", &w)
	stop()
	peers.Wait()
	if err != nil {
		return result{}, err
	}
	f.check(ctx, meanwhile, 0, "asked for meanwhile", &w)
	if late, err := submitAt(ctx, f.all[2], victim, "late"); err != nil {
		w.add("a new partner's: %v", err)
	} else if r, err := ended(ctx, f.all[2], late); err != nil || r.GetState() != adminpb.Request_DONE {
		w.add("a new partner's: %v: %s, %v", r.GetState(), r.GetFailure().GetCause(), err)
	}
	if strings.Contains(f.log(1), "the store has failed") || !alive(victim.PID()) {
		w.add("the daemon has lost its store, or its life")
	}
	perSecond := float64(failed) / lasted.Seconds()
	if perSecond > 50 {
		w.add("accepting is tried again and again")
	}
	if failed == 0 {
		w.add("descriptors did not run out")
	}
	return w.result(perSecond, "%d descriptors of %d in use, %d accepts failed in %v; %d transfers under way, %d asked for meanwhile, one of a new partner", most, descriptorLimit, failed, lasted.Round(time.Second), len(under), len(meanwhile)), nil
}

// submitAt registers a request at a node.
func submitAt(ctx context.Context, from, to *nodetest.Node, target string) (string, error) {
	c, err := from.Client()
	if err != nil {
		return "", err
	}
	r, err := c.Submit(ctx, &adminpb.SubmitRequest{Partner: to.Name, Rule: "push", Source: "file", Target: target})
	return r.GetRequest().GetId(), err
}

// four registers four requests for n1.
func (f *fleet) four(ctx context.Context, name string) (ids []string, err error) {
	for i := range 4 {
		id, err := submitAt(ctx, f.all[0], f.all[1], fmt.Sprint(name, i))
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// moving waits until bytes of all of them move.
func (f *fleet) moving(ctx context.Context, ids []string) error {
	c, err := f.all[0].Client()
	if err != nil {
		return err
	}
	for _, id := range ids {
		for {
			r, err := c.Get(ctx, &adminpb.Ref{Id: id})
			if err != nil {
				return err
			}
			if r.GetPhase() == "MOVING" || r.GetState() == adminpb.Request_DONE {
				break
			}
			if r.GetState() == adminpb.Request_INERROR {
				return fault.New("begin transfers", fault.Internal, "%s", r.GetFailure().GetCause())
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// check wants requests to be DONE; attempts, if not 0, are the most it may have taken.
func (f *fleet) check(ctx context.Context, ids []string, attempts uint32, what string, w *note) {
	for _, id := range ids {
		r, err := ended(ctx, f.all[0], id)
		if err != nil || r.GetState() != adminpb.Request_DONE || attempts > 0 && r.GetAttempt() > attempts {
			w.add("%s: %v in attempt %d: %s, %v", what, r.GetState(), r.GetAttempt(), r.GetFailure().GetCause(), err)
		}
	}
}

// beSilent is a connection that says nothing, made again when it is closed. Ten
// come from one address of the loopback device.
func beSilent(ctx context.Context, address string, i int) {
	d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/10))}}
	for ctx.Err() == nil {
		c, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			end := context.AfterFunc(ctx, func() { _ = c.Close() })
			_, _ = c.Write([]byte{22}) // who says nothing at all stays in the kernel
			_, _ = c.Read(make([]byte, 1))
			end()
			_ = c.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}
