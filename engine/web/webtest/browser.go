// Package webtest has tests visit a node's pages with a real browser: Debian's Chromium, driven by
// playwright-core from npm. What a visitor does is a script beside the test, which imports
// browser.mjs.
package webtest

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// longest is how long a visit may take.
const longest = 4 * time.Minute

// A Visit is a script and what it is told.
type Visit struct {
	Script string   // path of an .mjs file
	Args   []string // its arguments
	Env    []string // in addition to the test's own
	Within []string // a command that runs the browser, as for one in another namespace
	Rules  string   // which addresses host names have, as "MAP hosta.example 10.0.0.1"

	// Ask does what the script asks for, and the script goes on after it.
	Ask func(what string)
}

// Missing says what a visit lacks on this machine, or is empty.
func Missing() string {
	if chromium() == "" || look("node") == "" {
		return "no chromium or no node: install the packages chromium and nodejs"
	}
	if _, err := os.Stat(filepath.Join(packages(), "node_modules")); err != nil {
		return "no playwright-core in " + packages() + ": .ci/test installs it there"
	}
	return ""
}

// Run makes the visit. The test fails if the script does, and is skipped where there is no browser.
func (v Visit) Run(t testing.TB) {
	t.Helper()
	if lacks := Missing(); lacks != "" {
		t.Skip(lacks)
	}
	out := os.Getenv("PANNIER_SCREENSHOTS")
	if out == "" {
		out = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	argv := append(append(append([]string{}, v.Within...), "node", v.Script), v.Args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), "PANNIER_BROWSER="+packages(), "CHROMIUM="+chromium(), "RULES="+v.Rules, "OUT="+out), v.Env...)
	cmd.WaitDelay = time.Second // a browser that was left behind has the pipes, too
	answer, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		_ = w.Close()
		over <- err
	}()
	defer func() { // also when Ask has failed the test
		cancel()
		_ = said.Close()
		if err := <-over; err != nil {
			t.Errorf("the browser: %v", err)
		}
	}()
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if what, ok := strings.CutPrefix(lines.Text(), "do "); ok && v.Ask != nil {
			v.Ask(what)
			_, _ = io.WriteString(answer, "done\n")
		} else {
			t.Log(lines.Text())
		}
	}
}

func packages() string {
	if dir := os.Getenv("PANNIER_BROWSER"); dir != "" {
		return dir
	}
	return "/var/cache/pannier-test/browser"
}

func chromium() string { return look("chromium", "chromium-browser", "google-chrome") }

func look(names ...string) string {
	for _, n := range names {
		if path, err := exec.LookPath(n); err == nil {
			return path
		}
	}
	return ""
}
