package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pannier/pannier/cmd/pannier/benchpb"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// BenchResume is the name of the benchmark that gives a transfer up and
// continues it.
const BenchResume = "resume"

// giveUpAt is the part of the file after which the first attempt ends.
const giveUpAt = 0.9

// ResumeResult is the outcome: medians over the runs.
type ResumeResult struct {
	Case   string  `json:"case"`
	GaveUp float64 `json:"gave_up_percent"`     // of the file, when the client cancelled its call
	From   float64 `json:"resumed_at_percent"`  // where the second attempt began
	Moved  float64 `json:"moved_again_percent"` // what the second attempt put on the wire
	Twice  float64 `json:"moved_twice_mib"`     // of it, what the sink had already been sent
	Runs   int     `json:"runs"`
}

// resumeSample is one run, in bytes.
type resumeSample struct{ size, gaveUp, from, moved int64 }

func (s resumeSample) percent(n int64) float64 { return 100 * float64(n) / float64(s.size) }
func (s resumeSample) String() string {
	return fmt.Sprintf("gave up at %.1f %%  resumed at %.1f %%  moved %.1f %%", s.percent(s.gaveUp), s.percent(s.from), s.percent(s.moved))
}

// Resume moves a file over a TLS session, cancels the call at nine tenths, and
// makes it again. Both ends are in this process; what counts is bytes.
func Resume(ctx context.Context, cfg Config) (_ []ResumeResult, err error) {
	cfg.Concurrent = 1
	if cfg, err = cfg.checked(); err != nil {
		return nil, err
	}
	w, err := openWorkspace(cfg.Dir, cfg.Size, cfg.Size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	var samples []resumeSample
	for i := range cfg.Runs {
		s, err := resumeOnce(ctx, w.dir, cfg.job(BenchResume, w.dir), fmt.Sprintf("target-%d", i))
		if err != nil {
			return nil, err
		}
		cfg.say("round %d/%d  session-tls-resume  %v", i+1, cfg.Runs, s)
		samples = append(samples, s)
	}
	pick := func(n func(resumeSample) float64) float64 { return medianOf(samples, n) }
	return []ResumeResult{{
		Case: "session-tls-resume", Runs: len(samples),
		GaveUp: pick(func(s resumeSample) float64 { return s.percent(s.gaveUp) }),
		From:   pick(func(s resumeSample) float64 { return s.percent(s.from) }),
		Moved:  pick(func(s resumeSample) float64 { return s.percent(s.moved) }),
		Twice:  pick(func(s resumeSample) float64 { return float64(max(s.gaveUp-s.from, 0)) / (1 << 20) }),
	}}, nil
}

// keeper stores one file and keeps what it has when a call is given up.
type keeper struct {
	benchpb.UnimplementedBenchServer
	root *os.Root
	name string
}

func (k *keeper) Put(ctx context.Context, _ *benchpb.File) (*benchpb.Stored, error) {
	se, err := rpc.SideEffect(ctx)
	if err != nil {
		return nil, err
	}
	d := sideeffect.Descriptor{
		Direction: sideeffect.ClientToServer, Local: sideeffect.File(k.root, k.name), Quota: sideeffect.NoQuota, Resume: true,
	}
	if err := se.Run(ctx, &d, sideeffect.AwaitRemote); err != nil {
		return nil, err
	}
	return &benchpb.Stored{Bytes: d.BytesTransferred}, nil
}

func resumeOnce(ctx context.Context, dir string, job Job, name string) (s resumeSample, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return s, fault.Wrap("open workspace", dir, err)
	}
	defer root.Close()
	id, err := carrier.NewIdentity()
	if err != nil {
		return s, err
	}
	pins := carrier.Pins{id.Key()}
	srv, err := rpc.NewServer(rpc.ServerConfig{Identity: id, Pins: pins})
	if err != nil {
		return s, err
	}
	benchpb.RegisterBenchServer(srv, &keeper{root: root, name: name})
	addr, err := srv.Listen("tls://127.0.0.1:0")
	if err != nil {
		srv.Stop()
		return s, err
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	defer func() {
		srv.Stop()
		err = errors.Join(err, <-served)
	}()
	cc, err := rpc.Dial(addr, rpc.ClientConfig{Identity: id, Pins: pins})
	if err != nil {
		return s, err
	}
	defer cc.Close()
	return giveUpAndResume(ctx, benchpb.NewBenchClient(cc), root, job)
}

func giveUpAndResume(ctx context.Context, stub benchpb.BenchClient, root *os.Root, job Job) (s resumeSample, err error) {
	size := job.Size
	s.size = size
	first, cancel := context.WithCancel(ctx)
	defer cancel()
	d := sideeffect.Descriptor{
		Direction: sideeffect.ClientToServer, Local: sideeffect.File(root, filepath.Base(job.Source())), Quota: sideeffect.NoQuota, Resume: true,
		Progress: func(p sideeffect.Progress) {
			if float64(p.Moved) >= giveUpAt*float64(size) {
				cancel()
			}
		},
	}
	// A fast machine may be done before the next report; then there is nothing to resume.
	if _, err := stub.Put(first, &benchpb.File{}, rpc.With(&d)); err == nil {
		return s, fault.New("give up", fault.Internal, "the transfer was over before it could be given up; take a larger --size")
	} else if err = callFault("put", err); fault.KindOf(err) != fault.Canceled {
		return s, err
	}
	s.gaveUp = d.BytesTransferred
	again := sideeffect.Descriptor{
		Direction: sideeffect.ClientToServer, Local: sideeffect.File(root, filepath.Base(job.Source())), Quota: sideeffect.NoQuota, Resume: true,
	}
	if _, err := stub.Put(ctx, &benchpb.File{}, rpc.With(&again)); err != nil {
		return s, callFault("put again", err)
	}
	s.from, s.moved = again.ResumedFrom, again.Stats.WireBytes
	return s, nil
}
