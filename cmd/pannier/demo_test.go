package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDemoOfFile: the demonstration with a file of one's own goes to its end, and what it says of it is
// so: the digest, which bytes came twice, the rate, and the steps of both ends, one commit after the other.
func TestDemoOfFile(t *testing.T) {
	const size = 24 << 20
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(content)
	dir := t.TempDir()
	file := filepath.Join(dir, "of my own.bin")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	nodes := filepath.Join(dir, "nodes")
	if err := os.Mkdir(nodes, 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := exec.LookPath("pannier")
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, self, "demo", file, "--dir", nodes)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, &errs)
	}
	text := string(out)
	found := func(pattern string) []string {
		t.Helper()
		m := regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no %s in\n%s", pattern, text)
		}
		return m
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	for _, pattern := range []string{
		`^ +[0-9.]+s  request [0-9a-f]{8}: of my own\.bin, 24 MiB, from hosta to hostb; registered, and durable from here on$`,
		`^ +[0-9.]+s  done at both ends$`, `^sent      ` + digest + `$`, `^received  ` + digest + `, equal$`,
	} {
		found(pattern)
	}
	for _, at := range []string{"hosta/files/sent", "hostb/files/archive/*"} {
		all, err := filepath.Glob(filepath.Join(nodes, at, "of my own.bin"))
		if err != nil || len(all) != 1 {
			t.Errorf("%s: %q, %v", at, all, err)
			continue
		}
		if is, err := os.ReadFile(all[0]); err != nil || !bytes.Equal(is, content) {
			t.Errorf("%s is another file: %v", all[0], err)
		}
	}

	// What came twice is what had come and was not durable.
	killed := found(`^killed    after (.*) of 24 MiB; (.*) were durable and were not sent again, (.*) were$`)
	received, durable, again := mib(t, killed[1]), mib(t, killed[2]), mib(t, killed[3])
	if received < 12 || received > 24 || durable > received || again < received-durable-1 || again > received-durable+1 {
		t.Errorf("%v MiB had come, %v were durable, %v came again", received, durable, again)
	}
	if is := mib(t, found(`hostb KILLED \(-9\): it had received (.*)$`)[1]); is != received {
		t.Errorf("%v MiB received, and %v in the figures", is, received)
	}
	if is := mib(t, found(`hostb is back: its store says that (.*) are on its disk`)[1]); is != durable {
		t.Errorf("%v MiB durable, and %v in the figures", is, durable)
	}
	took := found(`^took      ([0-9.]+) s in ([0-9]+) attempts, at most (.*)/s by configuration`)
	seconds, err := strconv.ParseFloat(took[1], 64)
	attempts, _ := strconv.Atoi(took[2])
	if rate := mib(t, took[3]); err != nil || rate != 6 || attempts < 2 || seconds*rate < 24-rate {
		t.Errorf("%v s in %d attempts at %v MiB/s", seconds, attempts, rate)
	}

	// The steps: each end climbs its ladder, in the order of time, and the receiver goes on from what was durable.
	_, table, _ := strings.Cut(text, "one line for each commit:\n\n")
	table, _, _ = strings.Cut(table, "\n\n")
	last, phases, safe := 0.0, map[string][]string{}, map[string]float64{}
	restarted := false
	for _, line := range strings.Split(table, "\n")[1:] {
		f := strings.Split(line, "\t")
		if len(f) != 7 {
			t.Fatalf("%d fields: %q", len(f), line)
		}
		at, err := strconv.ParseFloat(strings.TrimSuffix(f[0], "s"), 64)
		if err != nil || at < last {
			t.Errorf("%q after %v s", line, last)
		}
		last = at
		if all := phases[f[1]]; len(all) == 0 || all[len(all)-1] != f[2] {
			phases[f[1]] = append(all, f[2])
		}
		if is := mib(t, f[4]); is < safe[f[1]] {
			t.Errorf("%q after %v MiB were durable", line, safe[f[1]])
		} else {
			safe[f[1]] = is
		}
		restarted = restarted || f[1] == "hostb" && strings.Contains(f[5], "Recover")
	}
	for node, want := range map[string]string{
		"hosta": "ACCEPTED PRE READY MOVING ENDED ACKED POST POSTED FINISHED", "hostb": "ACCEPTED PRE READY MOVING WHOLE COMMITTED POST POSTED FINISHED",
	} {
		rungs := strings.Fields(want)
		i := 0
		for _, phase := range phases[node] { // several rungs may be one commit
			for i < len(rungs) && rungs[i] != phase {
				i++
			}
		}
		if i != len(rungs)-1 || safe[node] != 24 {
			t.Errorf("%s: %q, %v MiB", node, phases[node], safe[node])
		}
	}
	if !restarted {
		t.Errorf("hostb has not been recovered:\n%s", table)
	}
}

// mib is a number of bytes as people read it, in MiB.
func mib(t *testing.T, text string) float64 {
	t.Helper()
	number, unit, _ := strings.Cut(text, " ")
	v, err := strconv.ParseFloat(number, 64)
	factor, ok := map[string]float64{"B": 1. / (1 << 20), "KiB": 1. / (1 << 10), "MiB": 1}[unit]
	if err != nil || !ok {
		t.Fatalf("%q is no number of bytes", text)
	}
	return v * factor
}
