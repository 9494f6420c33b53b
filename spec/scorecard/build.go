package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// What is shipped, as it is built.

var shipped = check{
	id: 42, title: "the program built from one commit in two directories is the same; no known vulnerability can be reached in it; in full, each parser is fuzzed besides",
	unit: "findings", n: counts{reduced: 1, full: 10},
	mutant:  "the directory is left in the program; a module with a known vulnerability is called",
	several: []string{"path", "vulnerable"},
	edits: []edit{
		{"spec/scorecard/build.go", "	leavePath := false\n", "	leavePath := mutant(\"42 path\")\n"},
		{"spec/scorecard/build.go", "	scanned := \".\"\n", "	scanned := map[bool]string{false: \".\", true: \"spec/scorecard/testdata/vulnerable\"}[mutant(\"42 vulnerable\")]\n"},
	},
	run: runShipped,
}

// runShipped fuzzes for j.n seconds a parser in full.
func runShipped(ctx context.Context, j *job) (result, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return result{}, err
	}
	var w note
	commit, err := sameBytes(ctx, &w, root, j.dir)
	if err != nil || w.n > 0 {
		return w.result(float64(w.n), "program of %s", commit), err
	}
	scan, err := reachable(ctx, &w, root)
	if err != nil {
		return result{}, err
	}
	detail := fmt.Sprintf("program of %s; %s", commit, scan)
	if j.full {
		parsers, err := fuzzed(ctx, &w, root, j.n)
		if err != nil {
			return result{}, err
		}
		detail += fmt.Sprintf("; %d parsers for %d s each", parsers, j.n)
	}
	return w.result(float64(w.n), "%s", detail), nil
}

// sameBytes builds the program of the last commit in two clones, with the words that
// .ci/package builds it with.
func sameBytes(ctx context.Context, w *note, root, dir string) (commit string, err error) {
	leavePath := false
	var sums [2][sha256.Size]byte
	for i, name := range []string{"one", "another/deeper"} {
		at := filepath.Join(dir, name)
		if _, err := output(ctx, root, "git", "-c", "safe.directory=*", "clone", "-q", root, at); err != nil {
			return "", err
		}
		script, err := os.ReadFile(filepath.Join(at, ".ci", "package"))
		if err != nil {
			return "", fault.Wrap("read script", "", err)
		}
		if leavePath {
			script = bytes.Replace(script, []byte("release=$VERSION"), []byte("release=$VERSION$PWD"), 1)
			if err := os.WriteFile(filepath.Join(at, ".ci", "package"), script, 0o755); err != nil {
				return "", fault.Wrap("change script", "", err)
			}
		}
		out := filepath.Join(dir, fmt.Sprint("out", i))
		if _, err := output(ctx, at, ".ci/package", "--program", out); err != nil {
			return "", err
		}
		b, err := os.ReadFile(filepath.Join(out, "pannier"))
		if err != nil {
			return "", fault.Wrap("read program", "", err)
		}
		sums[i] = sha256.Sum256(b)
		if commit, err = output(ctx, at, "git", "rev-parse", "--short=12", "HEAD"); err != nil {
			return "", err
		}
	}
	if sums[0] != sums[1] {
		w.add("the program is %x in one directory and %x in another", sums[0][:8], sums[1][:8])
	}
	return strings.TrimSpace(commit), nil
}

// Exit codes of .ci/vulncheck.
const (
	someFound = 3
	noScan    = 4
)

var vulnerability = regexp.MustCompile(`(?m)^Vulnerability #\d+: (\S+)`)

// reachable looks for known vulnerabilities, and says with what.
func reachable(ctx context.Context, w *note, root string) (with string, err error) {
	scanned := "."
	out, err := output(ctx, root, ".ci/vulncheck", scanned)
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() == noScan {
		return "", cannot{err}
	}
	found := vulnerability.FindAllStringSubmatch(out, -1)
	for _, f := range found {
		w.add("%s", f[1])
	}
	if err != nil && (len(found) == 0 || ended == nil || ended.ExitCode() != someFound) {
		return "", err
	}
	first, _, _ := strings.Cut(out, "\n")
	return first, nil
}

// fuzzed fuzzes each parser for some seconds, and returns how many there are.
func fuzzed(ctx context.Context, w *note, root string, seconds int) (parsers int, err error) {
	out, err := output(ctx, root, ".ci/fuzz", fmt.Sprint(seconds, "s"))
	for line := range strings.Lines(out) {
		switch {
		case strings.HasPrefix(line, "ok "):
			parsers++
		case strings.HasPrefix(line, "FAIL "):
			parsers++
			w.add("%s", strings.TrimSpace(line))
		}
	}
	if parsers == 0 {
		return 0, fault.New("fuzz", fault.NotFound, "no parser has been fuzzed: %v: %.500s", err, out)
	}
	return parsers, nil
}

// output is what a command says, which an error has the end of.
func output(ctx context.Context, dir string, argv ...string) (string, error) {
	cmd, letGo, err := tied(ctx, argv...)
	if err != nil {
		return "", err
	}
	defer letGo()
	cmd.Dir = dir
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(messages.String())
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, said[max(0, len(said)-500):])
	}
	return out.String(), nil
}
