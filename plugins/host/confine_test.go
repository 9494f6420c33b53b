package host_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// TestLimits: what a plugin may have holds before it runs, and is for it and what it starts; one
// without a limit of memory has the others.
func TestLimits(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has limits of plugins")
	}
	for _, memory := range []int64{300 << 20, -1} {
		cfg, _ := config(t)
		cfg.Memory, cfg.Files = memory, 99
		_, err := run(t, cfg).Open(t.Context(), plugins.Endpoint{URL: "odd:limits"})
		kindOf(t, err, fault.Refused)
		want := []string{"Max open files 99 99 ", "Max core file size 0 0 ", "Max data size 314572800 314572800 "}
		if memory < 0 || !host.Limited {
			want[2] = "Max data size unlimited unlimited "
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("memory %d: no %q in %v", memory, w, err)
			}
		}
	}
}
