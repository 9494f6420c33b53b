package host_test

import (
	"bytes"
	"io"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/channel"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/host"
)

// mapped is how often this process has the memory of a channel.
func mapped(t *testing.T) int {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil && channel.Shares {
		t.Fatal(err)
	}
	return bytes.Count(maps, []byte("memfd:pannier channel"))
}

// TestNothingLeft: plugins that were used and closed leave no goroutine, descriptor,
// memory or file behind, whether they ended well or were killed.
func TestNothingLeft(t *testing.T) {
	sockets := t.TempDir()
	use := func(end string) {
		cfg, _ := config(t)
		cfg.Dir = sockets
		p := host.New(cfg)
		if end == "in process" {
			p = host.InProcess(cfg, dir.Driver{})
		}
		s := open(t, p, t.TempDir())
		put(t, s, "/a", make([]byte, 3<<20))
		get(t, s, "/a")
		r, err := s.Read(t.Context(), "/a", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, 2<<20); err != nil {
			t.Fatal(err)
		}
		if channel.Shares && mapped(t) == 0 {
			t.Error("there is no memory of the channel")
		}
		_ = r.Close()
		if w, err := s.(plugins.Writer).Write(t.Context(), "/b", plugins.WriteRequest{Size: -1}); err != nil {
			t.Fatal(err)
		} else if _, err := w.Abort(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if end == "killed" {
			_, _ = p.Open(t.Context(), plugins.Endpoint{URL: "odd:exit"})
		} else if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	use("well") // what is made once is made now
	before := goleak.IgnoreCurrent()
	descriptors := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("this system does not list descriptors: ", err)
		}
		return len(all)
	}
	had := descriptors()
	for _, end := range []string{"well", "killed", "in process", "well"} {
		use(end)
	}
	eventually(t, func() bool {
		left, _ := os.ReadDir(sockets)
		return len(left) == 0 && descriptors() <= had && mapped(t) == 0
	})
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}
