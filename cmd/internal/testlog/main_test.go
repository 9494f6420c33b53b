package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// module is packages that end in all the ways there are.
const module = `
-- go.mod --
module m
go 1.26
-- good/good_test.go --
package good
import ("testing"; "fmt")
func TestGood(t *testing.T) { fmt.Println("noise"); t.Log("noise") }
func TestSkip(t *testing.T) { t.Run("sub", func(t *testing.T) { t.Skip("no", "luck") }) }
func TestMute(t *testing.T) { t.SkipNow() }
-- bad/bad_test.go --
package bad
import ("testing"; "fmt")
func TestGood(t *testing.T) { t.Log("noise") }
func TestBad(t *testing.T) {
	fmt.Println("printed")
	t.Run("good", func(t *testing.T) {})
	t.Run("bad", func(t *testing.T) { t.Error("reason") })
}
-- broken/broken_test.go --
package broken
import "testing"
func TestBroken(t *testing.T) { nothing() }
-- panics/panics_test.go --
package panics
import "testing"
func TestPanics(t *testing.T) { panic("help") }
-- exits/exits_test.go --
package exits
import ("os"; "testing")
func TestMain(m *testing.M) { println("leaving"); os.Exit(3) }
-- none/none.go --
package none
`

func unpack(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(module)).Files {
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// goTest is what go test says, with all that differs between runs taken out.
func goTest(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", append([]string{"test"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run() // it fails, as the module is meant to
	return out.Bytes()
}

var varying = regexp.MustCompile(`\(?[0-9.]+s\)?|\(cached\)|0x[0-9a-f]+\??|goroutine [0-9]+|\+0x.*|:[0-9]+ `)

// sorted is the lines of a text without what varies.
func sorted(text []byte) string {
	lines := strings.Split(varying.ReplaceAllString(string(text), ""), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestAgainstGoTest: the same lines as go test itself; only order and indent of
// subtests' are its own.
func TestAgainstGoTest(t *testing.T) {
	dir := unpack(t)
	want := sorted(goTest(t, dir, "./..."))
	var out, messages bytes.Buffer
	run(bytes.NewReader(goTest(t, dir, "-json", "./...")), &out, &messages, false, false, "")
	if got := sorted(out.Bytes()); got != want {
		t.Errorf("%s\ninstead of\n%s", got, want)
	}
	if !strings.HasSuffix(out.String(), "\nFAIL\n") {
		t.Errorf("the closing line is missing in\n%s", &out)
	}
	testSkipsAreLoud(t, goTest(t, dir, "-json", "./good"))
}

func testSkipsAreLoud(t *testing.T, events []byte) {
	allow := filepath.Join(t.TempDir(), "skips")
	for _, c := range []struct {
		allow  string
		strict bool
		code   int
		want   []string
	}{
		{"", false, 0, []string{`^SKIPPED: m/good TestSkip/sub: good_test.go:4: no luck$`, `^SKIPPED: m/good TestMute: no reason given$`}},
		{"", true, 1, []string{`^SKIPPED, BUT MUST RUN HERE: m/good TestSkip/sub: `, `^SKIPPED, BUT MUST RUN HERE: m/good TestMute: `, `^testlog: 2 tests were skipped`}},
		{"m/good TestMute it has nothing to say # ever\n# all\n\n", true, 1, []string{`TestSkip/sub`, `^SKIPPED, as allowed: m/good TestMute`, `^testlog: 1 tests`}},
		{"m/good TestMute/... x\nm/good TestSkip/... x\n", true, 0, []string{`as allowed: m/good TestSkip/sub`, `as allowed: m/good TestMute`}},
		{"m/good TestMute x\nm/good TestSki/... x\nm/good Test/... x\n", true, 1, []string{`BUT MUST RUN HERE: m/good TestSkip/sub`, `as allowed: m/good TestMute`, `^testlog: 1 tests`}},
		{"m/good TestMute x\nm/good TestSkip/sub x\n", true, 0, []string{`as allowed: m/good TestSkip/sub`, `as allowed: m/good TestMute`}},
		{"m/good TestMute\n", true, 2, []string{`is not a package, a test and a reason`}},
	} {
		if err := os.WriteFile(allow, []byte(c.allow), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, messages bytes.Buffer
		code := run(bytes.NewReader(events), &out, &messages, false, c.strict, allow)
		if code != c.code || len(strings.Split(strings.TrimSpace(messages.String()), "\n")) != len(c.want) {
			t.Errorf("%q, strict %v: %d\n%s", c.allow, c.strict, code, &messages)
		}
		for _, want := range c.want {
			if !regexp.MustCompile(`(?m)` + want).MatchString(messages.String()) {
				t.Errorf("%q, strict %v: no %q in\n%s", c.allow, c.strict, want, &messages)
			}
		}
	}
}

func TestVerbose(t *testing.T) {
	var out, messages bytes.Buffer
	run(strings.NewReader("go: downloading x\n"+`{"Action":"output","Package":"p","Test":"T","Output":"=== RUN   T\n"}`+"\n"+
		`{"Action":"build-output","ImportPath":"p","Output":"# p\n"}`+"\n"), &out, &messages, true, true, "")
	if out.String() != "go: downloading x\n=== RUN   T\n# p\n" || messages.Len() > 0 {
		t.Errorf("%q %q", &out, &messages)
	}
}
