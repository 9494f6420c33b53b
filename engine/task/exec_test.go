package task

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// script is an executable of the given text.
func script(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestArguments: whatever a variable holds becomes one argument, unchanged; what
// would be taken for an option is refused, and nothing is run.
func TestArguments(t *testing.T) {
	show := script(t, `for a; do printf '%s\0' "$a"; done`)
	hostile := []string{
		"a b", "a;reboot", "$(reboot)", "`reboot`", "'", `"`, `\`, "*", "?", "~", "a\nb", "a\tb", "%s", "#", "&", "|", ">x", "{path}", "{{", "$PATH", "é", "\u202e", "", " ",
	}
	for _, value := range hostile {
		o := on(t, "content")
		o.Vars["info"] = value
		res, err := step(t, Table{Task: "exec", Argv: []string{show, "first {info}", "{info}", "last"}}).Run(t.Context(), o)
		want := []string{"first " + value, value, "last"}
		if err != nil || !slices.Equal(strings.Split(strings.TrimSuffix(string(res.Output), "\x00"), "\x00"), want) {
			t.Errorf("%q arrived as %q, %v", value, res.Output, err)
		}
	}
	for _, value := range []string{"-rf", "--help", "-", "a\x00b"} {
		o := on(t, "content")
		o.Vars["info"] = value
		marker := filepath.Join(t.TempDir(), "ran")
		mark := script(t, "touch "+marker)
		if _, err := step(t, Table{Task: "exec", Argv: []string{mark, "{info}"}}).Run(t.Context(), o); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", value, err)
		}
		if _, err := os.Stat(marker); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q: the command ran", value)
		}
		_, err := step(t, Table{Task: "exec", Argv: []string{show, "--", "{info}"}}).Run(t.Context(), o)
		if (err == nil) != !strings.Contains(value, "\x00") {
			t.Errorf("%q behind --: %v", value, err)
		}
	}
}

// TestEnvironment: a command knows the variables, and nothing of this process.
func TestEnvironment(t *testing.T) {
	t.Setenv("SECRET", "canary")
	res, err := step(t, Table{Task: "exec", Argv: []string{"/usr/bin/env"}}).Run(t.Context(), on(t, "content"))
	out := string(res.Output)
	if err != nil || strings.Contains(out, "canary") || !strings.Contains(out, "PANNIER_PATH=in/a.dat\n") ||
		!strings.Contains(out, "PANNIER_ERROR_CODE=\n") || !strings.Contains(out, "PANNIER_TASK=01000000000000000000000000000000-requester-post-0\n") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		code    int
		warning []int
		warns   bool
		fails   bool
	}{{0, nil, false, false}, {1, nil, false, true}, {2, nil, false, true}, {1, []int{1}, true, false}, {3, []int{2, 3}, true, false}} {
		o := on(t, "content")
		res, err := step(t, Table{Task: "exec", Argv: []string{script(t, "echo said this; exit "+strconv.Itoa(c.code))}, Warning: c.warning}).Run(t.Context(), o)
		if (err != nil) != c.fails || (res.Warning != "") != c.warns {
			t.Errorf("%+v: %+v, %v", c, res, err)
		}
		want := "exit status " + strconv.Itoa(c.code) + ": said this"
		if err != nil && !strings.HasSuffix(err.Error(), want) || c.warns && res.Warning != want {
			t.Errorf("how it ended and what it said is missing: %v, %q", err, res.Warning)
		}
	}
	for says, want := range map[string]string{
		"":                                    "exit status 3",
		"echo; echo ' '":                      "exit status 3",
		"seq 1 3000; echo ' the last '; echo": "exit status 3: the last",
		"printf %01000d 0":                    "exit status 3: " + strings.Repeat("0", maxLine) + "...",
		"seq 1 3; printf 'a\\377b'":           "exit status 3: a?b",
	} {
		res, err := step(t, Table{Task: "exec", Argv: []string{script(t, says+"\nexit 3")}, Warning: []int{3}}).Run(t.Context(), on(t, "content"))
		if err != nil || res.Warning != want {
			t.Errorf("%s: %q, want %q; %v", says, res.Warning, want, err)
		}
	}
	if _, err := step(t, Table{Task: "exec", Argv: []string{"/no/such/program"}}).Run(t.Context(), on(t, "")); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no program: %v", err)
	}
}

// TestOutputIsCapped: a command that says too much is heard to its end, and its
// last words are kept.
func TestOutputIsCapped(t *testing.T) {
	res, err := step(t, Table{Task: "exec", Argv: []string{script(t, "head -c 3000000 /dev/zero; echo the end")}}).Run(t.Context(), on(t, ""))
	if err != nil || len(res.Output) != MaxOutput || !strings.HasSuffix(string(res.Output), "the end\n") {
		t.Fatalf("%d bytes, %v", len(res.Output), err)
	}
}

// alive reports whether a process is there and not a zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	after := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	return !strings.HasPrefix(strings.TrimSpace(after), "Z")
}

// TestGroupDies: a command that does not end is killed with all it has started,
// also those that ignore SIGTERM; and what a command leaves behind when it ends is killed too.
func TestGroupDies(t *testing.T) {
	for name, text := range map[string]string{
		"hangs":  "trap '' TERM; (trap '' TERM; sleep 1000) & echo $! >$1; sleep 1000",
		"leaves": "(trap '' TERM; exec sleep 1000 >/dev/null 2>&1) & echo $! >$1; exit 0",
	} {
		t.Run(name, func(t *testing.T) {
			pidFile := filepath.Join(t.TempDir(), "pid")
			s := step(t, Table{Task: "exec", Argv: []string{script(t, text), pidFile}})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error, 1)
			go func() { _, err := s.Run(ctx, on(t, "")); result <- err }()
			pid := 0
			for pid == 0 {
				b, _ := os.ReadFile(pidFile)
				pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
				time.Sleep(time.Millisecond)
			}
			if name == "hangs" {
				cancel()
			}
			if err := <-result; (err != nil) != (name == "hangs") || err != nil && fault.KindOf(err) != fault.Canceled {
				t.Error(err)
			}
			for range 1000 {
				if !alive(pid) {
					return
				}
				time.Sleep(time.Millisecond)
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Error("what the command started lives on")
		})
	}
}

// TestTimeout: the limit of a step is its own failure, and says so.
func TestTimeout(t *testing.T) {
	_, err := step(t, Table{Task: "exec", Argv: []string{"/bin/sleep", "1000"}, Timeout: Duration(10 * time.Millisecond)}).Run(t.Context(), on(t, ""))
	if fault.KindOf(err) != fault.Deadline || !strings.Contains(err.Error(), "longer than 10ms") {
		t.Fatal(err)
	}
}
