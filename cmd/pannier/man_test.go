package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestManPages: every command has a page and every key of the configuration is in that of
// pannier.toml; and mandoc finds nothing to say of any.
func TestManPages(t *testing.T) {
	dir, root := t.TempDir(), rootCommand()
	root.InitDefaultCompletionCmd()
	const document = "../../spec/config.md"
	if err := manPages(root, document, dir); err != nil {
		t.Fatal(err)
	}
	var each func(*cobra.Command)
	each = func(cmd *cobra.Command) {
		if cmd.Runnable() && !cmd.Hidden {
			if _, err := os.Stat(filepath.Join(dir, "man1", strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1")); err != nil {
				t.Error(err)
			}
		}
		for _, c := range cmd.Commands() {
			each(c)
		}
	}
	each(root)
	page, err := os.ReadFile(filepath.Join(dir, "man5", "pannier.toml.5"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	keys := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllSubmatch(text, -1)
	if len(keys) < 100 {
		t.Fatalf("the document has %d keys", len(keys))
	}
	for _, k := range keys {
		if !strings.Contains(string(page), "\n\\fB"+string(k[1])+"\\fR (") {
			t.Errorf("the page has no %s", k[1])
		}
	}
	t.Run("lint", func(t *testing.T) {
		pages, err := filepath.Glob(filepath.Join(dir, "man?", "*"))
		if err != nil || len(pages) < 100 {
			t.Fatalf("%d pages, %v", len(pages), err)
		}
		if out, err := exec.Command(systemProgram(t, "mandoc", "mandoc"), append([]string{"-Tlint"}, pages...)...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
