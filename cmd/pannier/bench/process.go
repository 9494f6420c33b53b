package bench

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// maxRun bounds one run of one case, so that an end that hangs is a failure.
const maxRun = 30 * time.Minute

// maxExit is how long an end may take to leave after it was told to.
const maxExit = 10 * time.Second

// Program is the command line that runs End on its stdin and stdout.
type Program struct {
	Path string   // of the executable
	Args []string // its argument vector, argv[0] included
}

// Self is this very program with the given arguments.
func Self(args ...string) (Program, error) {
	path, err := os.Executable()
	if err != nil {
		return Program{}, fault.Wrap("find own executable", "", err)
	}
	return Program{Path: path, Args: append([]string{os.Args[0]}, args...)}, nil
}

// process is the parent's hold on one end.
type process struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  lineReader
}

// startProcess starts an end with its job and waits for its first answer. What
// the end writes to its stderr appears on messages.
func startProcess(ctx context.Context, p Program, job Job, messages io.Writer) (*process, reply, error) {
	cmd := exec.CommandContext(ctx, p.Path, p.Args[1:]...)
	cmd.Args = p.Args
	cmd.Stderr = messages
	cmd.WaitDelay = maxExit
	detach(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, reply{}, fault.Wrap("start end", job.Role, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, reply{}, fault.Wrap("start end", job.Role, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, reply{}, fault.Wrap("start end", job.Role, err)
	}
	end := &process{name: job.Role + " end of " + job.Case, cmd: cmd, in: in, out: newLineReader(out)}
	first, err := end.ask(job)
	if err != nil {
		return nil, reply{}, errors.Join(err, end.close())
	}
	return end, first, nil
}

// ask sends one line and waits for the answer.
func (p *process) ask(v any) (reply, error) {
	if err := writeLine(p.in, v); err != nil {
		return reply{}, fault.Wrap("ask", p.name, err)
	}
	var r reply
	if err := p.out.read(&r); errors.Is(err, io.EOF) {
		return reply{}, fault.New("ask "+p.name, fault.Lost, "the process ended; its messages are above")
	} else if err != nil {
		return reply{}, fault.Wrap("ask", p.name, err)
	}
	return r, r.err(p.name)
}

func (p *process) usage() (Usage, error) {
	r, err := p.ask(order{Verb: verbUsage})
	if err != nil {
		return Usage{}, err
	}
	if r.Usage == nil {
		return Usage{}, fault.New("ask "+p.name, fault.Protocol, "no usage in the answer")
	}
	return *r.Usage, nil
}

// close tells the end to leave and waits for it; one that stays is killed.
func (p *process) close() error {
	err := p.in.Close()
	kill := time.AfterFunc(maxExit, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	return errors.Join(fault.Wrap("end", p.name, err), fault.Wrap("end", p.name, p.cmd.Wait()))
}
