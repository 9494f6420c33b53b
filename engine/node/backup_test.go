package node

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/pannier/pannier/engine/config"
)

// TestBackupOrder: whenever something is sent while a node is backed up, no copy of what folders and
// schedules note says that a request is registered which the store's copy has not, and no copy of the
// store has a transfer of which a bridge's copy has no note.
func TestBackupOrder(t *testing.T) {
	const noted, made, marked = 1, 2, 3 // what happens to a request, in that order
	for begins := range 8 {
		for each := range 4 {
			var now, copies int
			step := func() { // between two copies, as much as each
				if copies++; copies > begins {
					now += each
				}
			}
			write := func(since int) func(io.Writer) error {
				return func(w io.Writer) error {
					defer step()
					_, err := fmt.Fprint(w, now >= since)
					return err
				}
			}
			n := &Node{fixed: config.Node{Name: "n", State: t.TempDir()}, key: "sha256:x"}
			n.notes = []part{{folderFile, write(marked)}, {bridgeFile, write(noted)}, {scheduleFile, write(marked)}}
			var to bytes.Buffer
			if err := n.backup(write(made), &to, false); err != nil {
				t.Fatal(err)
			}
			z, err := zip.NewReader(bytes.NewReader(to.Bytes()), int64(to.Len()))
			if err != nil {
				t.Fatal(err)
			}
			says := func(name string) bool {
				f, err := z.Open(name)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(f)
				if err != nil || !slices.Contains([]string{"true", "false"}, string(text)) {
					t.Fatalf("%s: %q, %v", name, text, err)
				}
				return string(text) == "true"
			}
			for _, name := range []string{folderFile, scheduleFile} {
				if says(name) && !says(storeFile) {
					t.Errorf("%d, %d: %s has a request that the store has not", begins, each, name)
				}
			}
			if says(storeFile) && !says(bridgeFile) {
				t.Errorf("%d, %d: the store has what %s has not", begins, each, bridgeFile)
			}
		}
	}
}
