package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// goTest is the run of a check that lives as a test of a package, because it
// needs virtual time or the inside of the package: one test, without its cache,
// which reports through package score. Without a report the number of its
// subtests that passed is the figure. In flags %d is the count.
func goTest(pkg, name string, flags ...string) func(context.Context, *job) (result, error) {
	return func(ctx context.Context, j *job) (result, error) {
		root, err := moduleRoot(ctx)
		if err != nil {
			return result{}, err
		}
		args := []string{"test", "-json", "-count=1", "-timeout=20m", "-run=^" + name + "$"}
		if j.overlay != "" {
			args = append(args, "-overlay="+j.overlay)
		}
		args = append(args, pkg)
		for _, f := range flags {
			args = append(args, strings.Replace(f, "%d", strconv.Itoa(j.n), 1))
		}
		cmd, letGo, err := tied(ctx, append([]string{"go"}, args...)...)
		if err != nil {
			return result{}, err
		}
		defer letGo()
		cmd.Dir = root
		cmd.Env = append(cmd.Env, inMemory, score.EnvN+"="+strconv.Itoa(j.n), score.EnvSeed+"="+strconv.FormatUint(j.seed, 10))
		var messages bytes.Buffer
		cmd.Stderr = &messages
		out, err := cmd.Output()
		r, ran := readTest(out, name)
		if !ran {
			return r, fault.New("go test "+pkg, fault.NotFound, "no test %s has come to an end: %v: %s%.500s", name, err, messages.String(), out)
		}
		r.pass = r.pass && err == nil
		return r, nil
	}
}

// inMemory has such a test keep its files in memory, where that is a directory:
// what it judges is not the disk's speed, and what has to be on disk is checked by
// daemons.
var inMemory = func() string {
	const memory = "/dev/shm"
	if fi, err := os.Stat(memory); err == nil && fi.IsDir() {
		return "TMPDIR=" + memory
	}
	return "TMPDIR=" + os.TempDir()
}()

// testEvent is a line of `go test -json`.
type testEvent struct {
	Action, Test, Key, Value, Output string
}

// readTest finds what became of a test. A skipped one has not run.
func readTest(out []byte, name string) (r result, ran bool) {
	reported, last := false, ""
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		var e testEvent
		if json.Unmarshal(s.Bytes(), &e) != nil || e.Test != name && !strings.HasPrefix(e.Test, name+"/") {
			continue
		}
		sub := e.Test != name
		switch {
		case e.Action == "attr" && e.Key == score.AttrFigure:
			r.figure, _ = strconv.ParseFloat(e.Value, 64)
			reported = true
		case e.Action == "attr" && e.Key == score.AttrDetail:
			r.detail = e.Value
		case e.Action == "output" && strings.Contains(e.Output, "_test.go:"):
			last = strings.TrimSpace(e.Output)
		case e.Action == "pass" && sub && !reported:
			r.figure++
		case !sub && (e.Action == "pass" || e.Action == "fail"):
			ran, r.pass = true, e.Action == "pass"
		}
	}
	if r.detail == "" || !r.pass {
		r.detail = strings.TrimPrefix(r.detail+"; "+last, "; ")
	}
	return r, ran
}
