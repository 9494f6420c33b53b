package confine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// self is this program, also when its file has been replaced since.
const self = "/proc/self/exe"

// Start starts cmd with limits. program is open as what cmd.Path names; nil: it is this very
// program, whose init is enough. An error of its execution is as that of cmd.Start.
func Start(cmd *exec.Cmd, program *os.File, l Limits, most time.Duration) error {
	told, tells, err := os.Pipe()
	if err != nil {
		return err
	}
	defer told.Close()
	defer tells.Close()
	at := "-"
	first := 3 + len(cmd.ExtraFiles)
	cmd.ExtraFiles = append(cmd.ExtraFiles, tells)
	if program != nil {
		at = strconv.Itoa(first + 1)
		cmd.ExtraFiles = append(cmd.ExtraFiles, program)
	}
	args := cmd.Args
	if len(args) == 0 {
		args = []string{cmd.Path}
	}
	cmd.Path = self
	cmd.Args = append([]string{args[0], argument, strconv.FormatInt(l.Memory, 10), strconv.FormatInt(l.Files, 10), strconv.Itoa(first), at}, args...)
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = tells.Close()
	_ = told.SetReadDeadline(time.Now().Add(most))
	text, err := io.ReadAll(io.LimitReader(told, 20))
	if err == nil && len(text) == 0 {
		return nil
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil {
		return fmt.Errorf("it did not begin: %w", err)
	}
	number, _ := strconv.Atoi(string(text))
	return &os.PathError{Op: "execute", Path: args[0], Err: syscall.Errno(number)}
}

func init() {
	if len(os.Args) < 7 || os.Args[1] != argument {
		return
	}
	tells, err := strconv.Atoi(os.Args[4])
	if err == nil {
		syscall.CloseOnExec(tells)
		err = become(os.Args[2], os.Args[3], os.Args[5], os.Args[6:])
	}
	report := os.NewFile(uintptr(tells), "report")
	if err == nil {
		os.Args = os.Args[6:]
		_ = report.Close()
		return
	}
	number := syscall.EINVAL
	errors.As(err, &number)
	fmt.Fprint(report, int(number))
	os.Exit(forbidden)
}

// become limits this process, and executes what is open as program, which does not return.
func become(memory, files, program string, args []string) error {
	for _, l := range []struct {
		what int
		text string
	}{{syscall.RLIMIT_DATA, memory}, {syscall.RLIMIT_NOFILE, files}} {
		most, err := strconv.ParseUint(l.text, 10, 63)
		if err != nil {
			return err
		}
		if most == 0 {
			continue
		}
		if err := lower(l.what, most); err != nil {
			return err
		}
	}
	if err := lower(syscall.RLIMIT_CORE, 0); err != nil || program == "-" {
		return err
	}
	fd, err := strconv.Atoi(program)
	if err != nil {
		return err
	}
	syscall.CloseOnExec(fd)
	return syscall.Exec("/proc/self/fd/"+program, args, os.Environ())
}

// lower sets a limit that cannot be raised again, but by root.
func lower(what int, most uint64) error {
	var is syscall.Rlimit
	if err := syscall.Getrlimit(what, &is); err != nil {
		return err
	}
	is.Max = min(is.Max, most)
	is.Cur = is.Max
	return syscall.Setrlimit(what, &is)
}
