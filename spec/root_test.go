package spec_test

import (
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/sideeffect"
)

// TestRootIsOne: a stream and a source that proves a prefix must fold blocks
// alike, though neither package may import the other.
func TestRootIsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ours flow.Root
		var theirs [16]byte
		for range rapid.IntRange(1, 5).Draw(t, "blocks") {
			at, data := rapid.Int64Min(0).Draw(t, "offset"), rapid.SliceOf(rapid.Byte()).Draw(t, "content")
			ours, theirs = ours.Fold(at, data), sideeffect.FoldRoot(theirs, at, data)
			if [16]byte(ours) != theirs {
				t.Fatalf("flow %x, sideeffect %x", ours, theirs)
			}
		}
	})
}

// TestRootVectors pins the definition of spec/flow.md; the values were made
// with the reference implementation of XXH3 in C.
func TestRootVectors(t *testing.T) {
	for _, tc := range []struct {
		offset  int64
		content string
		want    string
	}{
		{0, "", "480d797682f7dcf97aaaf6ed56bc9ce1"},
		{0, "pannier", "1fb12191c6d833978e97f34ab6662a67"},
		{1 << 40, "pannier", "6f7c7d72ac5498d9b0690ed0194278f5"},
	} {
		if got := hex.EncodeToString(flowRoot(tc.offset, tc.content)); got != tc.want {
			t.Errorf("%q at %d: root %s, want %s", tc.content, tc.offset, got, tc.want)
		}
	}
}

func flowRoot(offset int64, content string) []byte {
	r := flow.Root{}.Fold(offset, []byte(content))
	return r[:]
}
