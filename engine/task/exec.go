package task

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// execTask runs a command: an argument vector, an environment of its own, no
// standard input, the rule's root as its directory, a process group that dies
// with it.
type execTask struct {
	argv    []Template
	warning []int // exit codes
}

// killWait is how long a command that was told to end may take before its group is
// killed, and its output afterwards to close.
const killWait = 2 * time.Second

func newExec(t *Table) (Task, error) {
	if len(t.Argv) == 0 {
		return nil, invalid("set argv, the program and its arguments, as [\"/usr/bin/gzip\", \"-t\", \"{path}\"]")
	}
	if !filepath.IsAbs(t.Argv[0]) || strings.ContainsAny(t.Argv[0], "{}") {
		return nil, invalid("argv[0] is %q: write the program's whole path, without variables", t.Argv[0])
	}
	for _, code := range t.Warning {
		if code < 1 || code > 255 {
			return nil, invalid("warning has %d: exit codes that fail are 1 to 255", code)
		}
	}
	e := &execTask{warning: t.Warning}
	for _, a := range t.Argv {
		filled, err := ParseTemplate(a)
		if err != nil {
			return nil, err
		}
		e.argv = append(e.argv, filled)
	}
	return e, nil
}

// vector is the arguments of one run. A value that would be taken for an option
// is refused unless "--" stands before it, and so is one with a NUL.
func (e *execTask) vector(v Vars) ([]string, error) {
	var argv []string
	dashes := false
	for _, t := range e.argv {
		a := t.Fill(v)
		literal := len(t.parts) == 1 && !t.parts[0].variable
		switch {
		case strings.IndexByte(a, 0) >= 0:
			return nil, fault.New("make arguments", fault.Invalid, "argument %d has a NUL byte", len(argv))
		case !literal && !dashes && strings.HasPrefix(a, "-") && !strings.HasPrefix(t.parts[0].text, "-"):
			return nil, fault.New("make arguments", fault.Invalid, "argument %d is %q, which the program would take for an option: write \"--\" before it in argv", len(argv), a)
		}
		dashes = dashes || literal && a == "--"
		argv = append(argv, a)
	}
	return argv, nil
}

func (e *execTask) Run(ctx context.Context, on *On) (Result, error) {
	argv, err := e.vector(on.Vars)
	if err != nil {
		return Result{}, err
	}
	out := &tail{limit: MaxOutput}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = on.Root.Name(), environment(on), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = killWait
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = runGroup(cmd)
	res := Result{Output: out.bytes()}
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil:
		return res, nil
	case errors.As(err, &exit) && exit.Exited() && slices.Contains(e.warning, exit.ExitCode()):
		res.Warning = ended(exit, res.Output)
		return res, nil
	case errors.As(err, &exit):
		failed := fault.New("run command", fault.Refused, "%s", ended(exit, res.Output))
		failed.Subject = argv[0]
		return res, failed
	}
	return res, fault.Wrap("run command", argv[0], err)
}

// environment is what a command knows: the variables, and nothing of this
// process but where programs are.
func environment(on *On) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	for name, value := range on.Vars {
		if strings.IndexByte(value, 0) < 0 {
			env = append(env, "PANNIER_"+strings.ToUpper(strings.ReplaceAll(name, ".", "_"))+"="+value)
		}
	}
	slices.Sort(env)
	return env
}

// tail keeps the last bytes that were written to it.
type tail struct {
	limit int
	kept  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-t.limit):]...)
	if len(t.kept) > 2*t.limit {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-t.limit:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte { return t.kept[max(0, len(t.kept)-t.limit):] }

// maxLine is how much of a command's last line is told.
const maxLine = 300

// ended is how a command has ended, and the line that it said last.
func ended(exit *exec.ExitError, out []byte) string {
	line := bytes.TrimSpace(out)
	line = bytes.TrimSpace(line[bytes.LastIndexByte(line, '\n')+1:])
	if len(line) == 0 {
		return exit.Error()
	}
	text := strings.ToValidUTF8(string(line[:min(len(line), maxLine)]), "?")
	if len(line) > maxLine {
		text += "..."
	}
	return exit.Error() + ": " + text
}
