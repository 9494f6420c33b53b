package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/fault"
)

// An edit is one change of the source: from occurs once in file, and becomes
// to, in which mutant("id") says whether this is the check's control.
type edit struct{ file, from, to string }

// envMutant names the check whose edits are switched on.
const envMutant = "PANNIER_MUTANT"

// switchSource is the file that every package with edits gets.
const switchSource = `package %s

import "os"

var mutantOn = os.Getenv("` + envMutant + `")

// mutant reports whether the edits of a check are switched on.
func mutant(id string) bool { return mutantOn == id }
`

// mutants is a scorecard built from edited source.
type mutants struct {
	dir     string
	overlay string // the build's -overlay file
	program string
}

// buildMutants builds a scorecard with the edits of all checks.
func buildMutants(ctx context.Context, checks []check) (*mutants, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return nil, fault.Wrap("make scratch folder", "", err)
	}
	m := &mutants{dir: dir, overlay: filepath.Join(dir, "overlay.json"), program: filepath.Join(dir, "scorecard")}
	if err := m.write(root, checks); err != nil {
		m.remove()
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", m.overlay, "-o", m.program, "./spec/scorecard")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		m.remove()
		return nil, fault.New("build mutants", fault.Invalid, "%v: %s", err, out)
	}
	return m, nil
}

func (m *mutants) remove() { _ = os.RemoveAll(m.dir) }

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/pannier/pannier").Output()
	if err != nil {
		return "", fault.New("find module", fault.NotFound, "run the scorecard inside the module: %v", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// write makes the edited copies and the overlay that names them.
func (m *mutants) write(root string, checks []check) error {
	edited := map[string][]byte{}
	for _, c := range checks {
		for _, e := range c.edits {
			path := filepath.Join(root, filepath.FromSlash(e.file))
			text, err := edited[path], error(nil)
			if text == nil {
				if text, err = os.ReadFile(path); err != nil {
					return fault.Wrap("edit source", e.file, err)
				}
			}
			if n := bytes.Count(text, []byte(e.from)); n != 1 {
				return fault.New("edit source", fault.Invalid, "check %d: %q occurs %d times in %s, and not once: the code has changed, its mutant has to follow", c.id, e.from, n, e.file)
			}
			edited[path] = bytes.Replace(text, []byte(e.from), []byte(e.to), 1)
		}
	}
	replace := map[string]string{}
	for path, text := range edited {
		folder := filepath.Dir(path)
		replace[path] = m.file(text, len(replace))
		if at := filepath.Join(folder, "mutant_switch.go"); replace[at] == "" {
			replace[at] = m.file(fmt.Appendf(nil, switchSource, packageOf(text)), len(replace))
		}
	}
	for _, at := range replace {
		if at == "" {
			return fault.New("edit source", fault.IO, "a copy in %s could not be written", m.dir)
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return fault.Wrap("edit source", "", err)
	}
	return fault.Wrap("edit source", "", os.WriteFile(m.overlay, text, 0o600))
}

// file writes one copy and returns its name; "" on failure.
func (m *mutants) file(text []byte, n int) string {
	name := filepath.Join(m.dir, strconv.Itoa(n)+".go")
	if os.WriteFile(name, text, 0o600) != nil {
		return ""
	}
	return name
}

// packageOf is the name in a file's package clause.
func packageOf(text []byte) string {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte("package ")); ok {
			return string(bytes.TrimSpace(rest))
		}
	}
	return ""
}

// maxControl bounds a control; one that hangs has not failed as it must.
const maxControl = 5 * time.Minute

// maxLeave is how long a control may take to end in order.
const maxLeave = 20 * time.Second

// control runs a check's negative controls, each of which must fail, and says what
// came of them. Edits run in the mutated scorecard, everything else here.
func control(ctx context.Context, c check, j job, m *mutants) (failed bool, text string) {
	if len(c.several) == 0 {
		return controlOne(ctx, c, "", j, m)
	}
	failed = true
	for i, name := range c.several {
		found, what := controlOne(ctx, c, " "+name, j, m)
		failed = failed && found
		if i > 0 {
			text += "; "
		}
		text += name + ": " + what
	}
	return failed, text
}

func controlOne(ctx context.Context, c check, name string, j job, m *mutants) (failed bool, text string) {
	ctx, cancel := context.WithTimeout(ctx, maxControl)
	defer cancel()
	if len(c.edits) == 0 {
		j.broken = true
		r, err := perform(ctx, c, j)
		if err != nil {
			return false, couldNotRun + err.Error()
		}
		return verdictOf(r)
	}
	cmd := exec.CommandContext(ctx, m.program, "--control", m.overlay, "--json", "--only", strconv.Itoa(c.id), "--seed", strconv.FormatUint(j.seed, 10))
	cmd.Env = append(os.Environ(), envMutant+"="+strconv.Itoa(c.id)+name, "TMPDIR="+m.dir) // one that dies removes nothing
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }               // it ends what it has started, and what it has mounted
	cmd.WaitDelay = maxLeave
	letGo, err := nodetest.Tie(cmd)
	if err != nil {
		return false, couldNotRun + err.Error()
	}
	defer letGo()
	var messages bytes.Buffer
	cmd.Stderr = &messages
	out, err := cmd.Output()
	var r row
	if json.Unmarshal(out, &r) == nil && r.ID == c.id {
		if strings.HasPrefix(r.Detail, couldNotRun) {
			return false, r.Detail
		}
		return verdictOf(r)
	}
	if err != nil && ctx.Err() == nil && cmd.ProcessState != nil && cmd.ProcessState.ExitCode() != exitCouldNot {
		first, _, _ := strings.Cut(messages.String(), "\n")
		return true, fmt.Sprintf("failed as it must: the process died, %v: %s", err, first)
	}
	return false, fmt.Sprintf(couldNotRun+"%v: %.500s", err, messages.String())
}

func verdictOf(r row) (failed bool, text string) {
	if r.Pass {
		return false, fmt.Sprintf("PASSED, and must not: %.4g %s; %s", r.Figure, r.Unit, r.Detail)
	}
	return true, fmt.Sprintf("failed as it must: %.4g %s; %s", r.Figure, r.Unit, r.Detail)
}
