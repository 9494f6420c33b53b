package carrier

import (
	"cmp"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// graceTime is how long a command may go on after its connection has been closed.
const graceTime = time.Second

// command is a child process whose stdin and stdout are a connection. It is in a
// process group of its own, so that a signal of the terminal does not end it, and
// that all of it can be ended.
type command struct {
	cmd    *exec.Cmd
	errors *os.File // what it says on stderr
	said   lines
	read   chan struct{} // closed when errors has been read to its end
	reaped chan struct{} // closed when the process is no more
	err    error         // how it ended; set before reaped is closed
}

// openExec starts the command. Its environment and directory are this process's.
func openExec(a Address, log *slog.Logger) (*fileConn, error) {
	argv := a.Argv()
	c := &command{cmd: exec.Command(argv[0], argv[1:]...), read: make(chan struct{}), reaped: make(chan struct{})}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.said = lines{log: log.With("command", argv[0])}
	in, out, err := c.start()
	if err != nil {
		return nil, fault.Wrap("start command", argv[0], err)
	}
	go c.wait()
	go c.listen()
	conn, err := newFileConn(in, out, a)
	if err != nil {
		return nil, errors.Join(err, c.end())
	}
	conn.explain, conn.finish = c.explain, c.end
	return conn, nil
}

// start makes three pipes and the process.
func (c *command) start() (in, out *os.File, err error) {
	var all [6]*os.File // of each pipe the end to read and the one to write
	for i := 0; i < len(all) && err == nil; i += 2 {
		all[i], all[i+1], err = os.Pipe()
	}
	if err == nil {
		c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = all[0], all[3], all[5]
		err = c.cmd.Start()
	}
	ours := [6]bool{1: true, 2: true, 4: true}
	for i, f := range all {
		if f != nil && (err != nil || !ours[i]) {
			_ = f.Close()
		}
	}
	c.errors = all[4]
	return all[2], all[1], err
}

func (c *command) wait() {
	c.err = c.cmd.Wait()
	close(c.reaped)
}

func (c *command) listen() {
	defer close(c.read)
	c.said.copy(c.errors)
}

// end is called when stdin and stdout are closed. It returns when the process is no
// more and has been waited for.
func (c *command) end() error {
	if !c.ends(graceTime) {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // the whole group
		<-c.reaped
	}
	err := c.errors.Close() // what it has left running may hold the other end
	<-c.read
	return err
}

// ends reports whether the process ends within d.
func (c *command) ends(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.reaped:
		return true
	case <-t.C:
		return false
	}
}

// explain is err, or how the command ended if that was not well.
func (c *command) explain(err error) error {
	if !c.ends(graceTime) || c.err == nil {
		return err
	}
	t := time.NewTimer(graceTime)
	defer t.Stop()
	select {
	case <-c.read:
	case <-t.C:
	}
	e := fault.New("run command", fault.Lost, "%w; it said: %s", c.err, cmp.Or(c.said.lastLine(), "nothing"))
	e.Subject = c.cmd.Args[0]
	return e
}
