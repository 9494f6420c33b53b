package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/spec/relpath"
)

// BenchmarkRequests carries files between two nodes over TLS, both in this
// process, one and 64 at a time, for profiles: the figures are those of `pannier bench engine`.
func BenchmarkRequests(b *testing.B) {
	for _, size := range []int{4_000, 250_000} {
		for _, at := range []int{1, 64} {
			b.Run(fmt.Sprintf("%d-%d", size, at), func(b *testing.B) { benchRequests(b, size, at) })
		}
	}
}

func benchRequests(b *testing.B, size, at int) {
	ends := map[string]*host{"a": newHost(b, "a"), "b": newHost(b, "b")}
	address, key := map[string]string{}, map[string]string{}
	for name, h := range ends {
		address[name] = "tls://" + freeport.For(b, "127.0.0.1")
		os.MkdirAll(h.dir+"/state", 0o700)
		key[name] = must(carrier.LoadOrCreateIdentity(h.dir + "/state")).Key()
	}
	for name, h := range ends {
		other := "a"
		if name == "a" {
			other = "b"
		}
		h.start(must(config.Parse("bench.toml", fmt.Appendf(nil, `
node = { name = %q, state = %q, listen = [%q], log = "warn" }
[[partner]]
name = %q
address = %q
key = %q
[[rule]]
name = "push"
direction = "send"
partners = ["*"]
root = %q

`, name, h.dir+"/state", address[name], other, address[other], key[other], h.dir+"/files"))))
	}
	a := ends["a"]
	if err := os.WriteFile(filepath.Join(a.dir, "files", "x"), make([]byte, size), 0o644); err != nil {
		b.Fatal(err)
	}
	one := func(i int64) {
		r, _, err := a.node.Engine().Submit(b.Context(), engine.Order{Partner: "b", Rule: "push", Source: must(relpath.Parse("x")), Target: must(relpath.Parse(fmt.Sprintf("y%d", i)))})
		if err == nil {
			r, err = a.node.Engine().Wait(b.Context(), store.RefOf(&r))
		}
		if err != nil || r.State != lifecycle.Done {
			b.Error(r.State, r.Failure, err)
		}
	}
	one(-1)
	var next atomic.Int64
	before := cpu()
	b.ResetTimer()
	var all sync.WaitGroup
	for range at {
		all.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				one(i)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric((cpu()-before)*1000/float64(b.N), "cpu-ms/op")
}

// cpu is what this process has used, in seconds.
func cpu() float64 {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}
