package sideeffect

import (
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/relpath"
)

// TestPartialName: where OpenSink keeps what has arrived, and known again by its name.
func TestPartialName(t *testing.T) {
	for _, target := range []string{"a", "dir/b.txt", "x/" + strings.Repeat("ü", 120)} {
		p, err := relpath.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		got, err := PartialName(p)
		if err != nil || got.Base() != partialName(p.Base()) || got.Dir() != p.Dir() || !IsPartial(got.Base()) {
			t.Errorf("%q: %q %v", target, got, err)
		}
	}
	for _, name := range []string{"", "a", ".a", tempName("a"), stateName("a"), ".a.pannier-r", "a.pannier-r0123456789abcdef", ".pannier-r0123456789abcdef",
		".a.pannier-r0123456789abcdeg", ".a.pannier-r0123456789abcdef0", ".a.pannier-r0123456789ABCDEF"} {
		if IsPartial(name) {
			t.Errorf("%q", name)
		}
	}
}
