package main

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	bePlugin(os.Args)
	testscript.Main(m, map[string]func(){"pannier": func() {
		completeWithin = time.Minute
		main()
	}})
}

// TestScripts runs what the commands do as a shell does: those of testdata/script
// alone, those of testdata/nodes with real nodes, those of testdata/daemon beside a daemon whose engine the script plays.
func TestScripts(t *testing.T) {
	t.Run("alone", func(t *testing.T) {
		testscript.Run(t, testscript.Params{Dir: "testdata/script", Cmds: commonCommands()})
	})
	t.Run("nodes", func(t *testing.T) {
		testscript.Run(t, testscript.Params{Dir: "testdata/nodes", Setup: startNodes, Cmds: nodeCommands()})
	})
	t.Run("daemon", func(t *testing.T) {
		testscript.Run(t, testscript.Params{Dir: "testdata/daemon", Setup: startDaemon, Cmds: daemonCommands()})
	})
}

// commonCommands are those of all scripts:
//
//	code N PROGRAM ARGUMENT...   runs a program, which ends with that exit code
//	mode N FILE                  compares a file's mode
//	appears REGEXP FILE          waits until a file that is written to has it
//	talk ADDRESS TEXT            wants a text back that it sends to an address, as tcp://127.0.0.1:80
//	! talk ADDRESS TEXT          wants to be cut off without a byte, or not to be let in at all
//	address REGEXP FILE NAME     sets a variable to what the group of an expression finds in a file
func commonCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"code": func(ts *testscript.TestScript, _ bool, args []string) {
			want, err := strconv.Atoi(args[0])
			ts.Check(err)
			err = ts.Exec(args[1], args[2:]...)
			got := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				got = exit.ExitCode()
			} else if err != nil {
				ts.Fatalf("%v", err)
			}
			if got != want {
				ts.Fatalf("%q: exit code %d, want %d\n%s", args[1:], got, want, ts.ReadFile("stderr"))
			}
		},
		"appears": func(ts *testscript.TestScript, _ bool, args []string) {
			want, err := regexp.Compile(args[0])
			ts.Check(err)
			for began := time.Now(); !want.MatchString(read(ts, args[1])); time.Sleep(5 * time.Millisecond) {
				if time.Since(began) > 20*time.Second {
					ts.Fatalf("%s has not appeared in %s", args[0], args[1])
				}
			}
		},
		"talk": func(ts *testscript.TestScript, neg bool, args []string) {
			network, address, _ := strings.Cut(args[0], "://")
			if got, err := talk(network, address, args[1]); neg != (got != args[1]) || neg && got != "" {
				ts.Fatalf("%q came back of %q, %v", got, args[1], err)
			}
		},
		"address": func(ts *testscript.TestScript, _ bool, args []string) {
			found := regexp.MustCompile("(?m)" + args[0]).FindStringSubmatch(read(ts, args[1]))
			if len(found) < 2 {
				ts.Fatalf("%s has no %s", args[1], args[0])
			}
			ts.Setenv(args[2], found[1])
		},
		"mode": func(ts *testscript.TestScript, _ bool, args []string) {
			fi, err := os.Stat(ts.MkAbs(args[1]))
			ts.Check(err)
			if want, err := strconv.ParseUint(args[0], 8, 32); err != nil || fi.Mode().Perm() != os.FileMode(want) {
				ts.Fatalf("%v, want %s", fi.Mode(), args[0])
			}
		},
	}
}

// talk sends a text and its end, and returns what comes back before the other end's.
func talk(network, address, text string) (string, error) {
	c, err := net.Dial(network, address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = io.WriteString(c, text)
	_ = c.(interface{ CloseWrite() error }).CloseWrite()
	got, err := io.ReadAll(c)
	return string(got), err
}

// read is a file's content; "" while there is none.
func read(ts *testscript.TestScript, name string) string {
	b, err := os.ReadFile(ts.MkAbs(name))
	if err != nil {
		return ""
	}
	return string(b)
}
