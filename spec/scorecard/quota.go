package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/rpcpb"
)

// endless stands for a source without an end.
const endless = int64(-1)

// mostPast is where a control stops writing what has no end.
const mostPast = 4 * mib

var quota = check{
	id: 9, title: "quota q; offered q, q+1, q+1 GiB, no end, compressed or not, from sources that keep to it or not: q passes, the rest is quota exceeded, no byte past q in the file, no name",
	unit: "bytes past q", n: counts{reduced: 20, full: 1000},
	mutant: "the receiver does not count decompressed bytes against its own quota",
	edits:  []edit{{"sideeffect/receive.go", "q >= 0 && r.at+int64(len(keep)) > q {", "q >= 0 && r.at+int64(len(keep)) > q && !mutant(\"9\") {"}},
	run:    runQuota,
}

// quotaRun is the two ends and the folder of the sink.
type quotaRun struct {
	j     *job
	cc    *rpc.ClientConn
	root  *os.Root
	dir   string
	note  note
	past  int64 // bytes written past the quota, the most seen
	cases int

	mu    sync.Mutex
	serve handler // of the call that runs
}

func runQuota(ctx context.Context, j *job) (result, error) {
	q := &quotaRun{j: j, dir: filepath.Join(j.dir, "sinks")}
	if err := os.Mkdir(q.dir, 0o700); err != nil {
		return result{}, fault.Wrap("prepare quota", "", err)
	}
	var err error
	if q.root, err = os.OpenRoot(q.dir); err != nil {
		return result{}, fault.Wrap("prepare quota", "", err)
	}
	defer q.root.Close()
	pipe := carrier.NewPipe()
	s, err := serving(rpc.ServerConfig{Pipe: pipe}, "pipe:", func(ctx context.Context, name string) error {
		q.mu.Lock()
		h := q.serve
		q.mu.Unlock()
		return h(ctx, name)
	})
	if err != nil {
		return result{}, err
	}
	defer s.stop()
	if q.cc, err = rpc.Dial("pipe:", rpc.ClientConfig{Pipe: pipe}); err != nil {
		return result{}, err
	}
	defer q.cc.Close()
	for range j.n {
		limit := j.rnd.Int64N([]int64{20 << 10, mib}[j.rnd.IntN(2)])
		for _, more := range []int64{0, 1, 1 << 30, endless} {
			for _, deaf := range []bool{false, true} {
				q.offer(ctx, limit, more, deaf, sideeffect.Compression(j.rnd.IntN(4)))
			}
		}
	}
	return q.note.result(float64(q.past), "%d transfers with %d quotas, half of them from sources that do not listen", q.cases, j.n), nil
}

// offer moves limit+more bytes, or endlessly many, towards a sink of that quota.
func (q *quotaRun) offer(ctx context.Context, limit, more int64, deaf bool, c sideeffect.Compression) {
	q.cases++
	name := fmt.Sprint(q.cases)
	size := limit + more
	if more == endless {
		size = endless
	}
	sink := &sideeffect.Descriptor{
		Direction: sideeffect.ServerToClient, Quota: limit, Compress: c,
		Local: watched{sideeffect.File(q.root, name), func(_, off int64, n int) error {
			if q.past = max(q.past, off+int64(n)-limit); q.past > mostPast {
				return fault.New("write", fault.IO, "the check has seen enough")
			}
			return nil
		}},
	}
	serve := q.honest(size)
	if deaf {
		serve = q.deaf(size, c)
	}
	q.mu.Lock()
	q.serve = serve
	q.mu.Unlock()
	err := put(ctx, q.cc, name, sink)
	fi, statErr := os.Stat(filepath.Join(q.dir, name))
	switch {
	case more == 0 && (err != nil || statErr != nil || fi.Size() != limit):
		q.note.add("quota %d, as many offered, deaf %v: %v, %v", limit, deaf, err, statErr)
	case more != 0 && (!errors.Is(err, fault.QuotaExceeded) || !sink.QuotaExceeded):
		q.note.add("quota %d, %d more offered, deaf %v: %v", limit, more, deaf, err)
	case more != 0 && !errors.Is(statErr, os.ErrNotExist):
		q.note.add("quota %d, %d more offered, deaf %v: there is a file", limit, more, deaf)
	}
	if q.past > 0 {
		q.note.add("%d bytes past the quota of %d, deaf %v", q.past, limit, deaf)
	}
	q.clear()
}

// clear empties the folder, where nothing but finished files may be.
func (q *quotaRun) clear() {
	entries, _ := os.ReadDir(q.dir)
	for _, e := range entries {
		if e.Name()[0] == '.' {
			q.note.add("%s was left", e.Name())
		}
		_ = q.root.Remove(e.Name())
	}
}

// honest is the handler whose source is what the package makes.
func (q *quotaRun) honest(size int64) handler {
	return func(ctx context.Context, _ string) error {
		se, err := rpc.SideEffect(ctx)
		if err != nil {
			return err
		}
		r := io.Reader(zeros{})
		if size >= 0 {
			r = io.LimitReader(r, size)
		}
		d := &sideeffect.Descriptor{Direction: sideeffect.ServerToClient, Quota: sideeffect.NoQuota, Local: sideeffect.Reader(r, -1)}
		return se.Run(ctx, d, sideeffect.AwaitRemote)
	}
}

// zeros is a reader without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// deaf is the handler of a hostile server: it opens the stream of the effect by
// itself and sends whatever limit the sink has told it.
func (q *quotaRun) deaf(size int64, c sideeffect.Compression) handler {
	return func(ctx context.Context, _ string) error {
		p, _ := peer.FromContext(ctx)
		info, ok := p.AuthInfo.(rpc.AuthInfo)
		if !ok || info.Session == nil {
			return fault.New("find session", fault.Internal, "the call has none")
		}
		asks := metadata.ValueFromIncomingContext(ctx, rpc.MetadataKey)
		a := new(rpcpb.Ask)
		if len(asks) != 1 {
			return fault.New("find ask", fault.Internal, "%d asks", len(asks))
		}
		if err := proto.Unmarshal([]byte(asks[0]), a); err != nil {
			return err
		}
		meta, err := proto.Marshal(&rpcpb.Open{Call: a.Call, Source: &rpcpb.Source{}})
		if err != nil {
			return err
		}
		b, err := info.Session.OpenBlocks(ctx, flow.Open{Kind: "effect", Meta: meta, Send: true, Compress: flow.Compression(c)})
		if err != nil {
			return err
		}
		return pour(ctx, b, size)
	}
}

// pour sends size bytes of zeros, or as many as the sink takes, and the end.
func pour(ctx context.Context, b *flow.BlockStream, size int64) error {
	for at := int64(0); ; {
		blk, err := b.Next(ctx)
		if err != nil {
			return err
		}
		n := len(blk.Data)
		if size >= 0 {
			n = int(min(int64(n), size-at))
		}
		clear(blk.Data[:n])
		if err := b.Send(ctx, blk, n); err != nil {
			return err
		}
		if at += int64(n); at == size {
			break
		}
	}
	trailer, err := proto.Marshal(&rpcpb.End{Total: size})
	if err == nil {
		err = b.End(trailer)
	}
	if err == nil {
		_, err = b.Verdict(ctx)
	}
	return err
}
