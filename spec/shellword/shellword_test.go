package shellword_test

import (
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pannier/pannier/spec/shellword"
)

// TestLine: a shell reads back each word as it was, whatever is in it.
func TestLine(t *testing.T) {
	all := []string{"", "a", "/srv/in box", "it's", "$HOME", "`id`", "*", "~root", "#", "-R", "a;b", "x\ny", `\`}
	rapid.Check(t, func(t *rapid.T) {
		if word := rapid.StringMatching(`[^\x00]{0,12}`).Draw(t, "word"); len(all) < 200 {
			all = append(all, word)
		}
	})
	out, err := exec.Command("/bin/sh", "-c", `printf '%s\0' `+shellword.Line(all...)).Output()
	if want := strings.Join(all, "\x00") + "\x00"; err != nil || string(out) != want {
		t.Errorf("a shell makes %q of %q, %v", out, want, err)
	}
	if got := shellword.Line("pannier", "send", "/a/b.txt"); got != "pannier send /a/b.txt" {
		t.Errorf("needless quotes: %s", got)
	}
}
