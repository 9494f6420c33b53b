package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/sideeffect"
)

// leakChecked is a test run that fails when goroutines are left.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"rcat": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			env.Values[servingKey{}] = &serving{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serveScript, "endserve": endServeScript, "cutoff": cutoffScript, "grow": growScript, "code": codeScript, "readkey": readKeyScript,
		},
	})
}

// serving is the server of a script: rcat serve in the process of the test, so
// that its goroutines are checked, too.
type serving struct {
	stop     context.CancelFunc
	over     chan int // exit code
	messages flowtest.Log
}

type servingKey struct{}

// serveScript is "serve [FLAG...]": it starts rcat serve on a free port, if no
// flag says otherwise, and sets HOST and KEY to what it prints.
func serveScript(ts *testscript.TestScript, neg bool, args []string) {
	s := ts.Value(servingKey{}).(*serving)
	if neg || s.stop != nil {
		ts.Fatalf("usage: serve [FLAG...], once")
	}
	for i, a := range args {
		if strings.HasPrefix(a, "unix:") {
			args[i] = "unix:" + ts.MkAbs(strings.TrimPrefix(a, "unix:"))
		}
	}
	if !strings.Contains(strings.Join(args, " "), "--listen") {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	args = append([]string{"serve", "--state", ts.MkAbs("server-state"), "--root", ts.MkAbs("root")}, args...)
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	s.stop, s.over = cancel, make(chan int, 1)
	go func() {
		code := command.Run(ctx, rootCommand(), args, nil, w, &s.messages)
		w.Close()
		s.over <- code
	}()
	ts.Defer(func() {
		cancel()
		s.over <- <-s.over
	})
	var address string
	if _, err := fmt.Fscanf(r, "listening on %s\n", &address); err != nil {
		ts.Fatalf("no address: %v\n%s", err, s.messages.String())
	}
	scheme, host, _ := strings.Cut(address, "://")
	if scheme == "unix" {
		host = "unix:" + host
	}
	ts.Setenv("HOST", host)
	if scheme == "tls" {
		var key string
		if _, err := fmt.Fscanf(r, "key %s\n", &key); err != nil {
			ts.Fatalf("no key: %v", err)
		}
		ts.Setenv("KEY", key)
	}
}

// endServeScript is "endserve": it ends the server, which has to end well, and writes
// what it said to serve.log.
func endServeScript(ts *testscript.TestScript, neg bool, args []string) {
	s := ts.Value(servingKey{}).(*serving)
	s.stop()
	code := <-s.over
	s.over <- code
	ts.Check(os.WriteFile(ts.MkAbs("serve.log"), []byte(s.messages.String()), 0o600))
	if code != 0 {
		ts.Fatalf("the server ended with %d", code)
	}
}

// growScript is "grow FILE BYTES": a file that differs in every block.
func growScript(ts *testscript.TestScript, neg bool, args []string) {
	var n int64
	_, err := fmt.Sscan(args[1], &n)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content(n), 0o600))
}

func content(n int64) []byte {
	var b bytes.Buffer
	for i := 0; int64(b.Len()) < n; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.Bytes()[:n]
}

// cutoffScript is "cutoff get|put PATH FILE": a resumable transfer that the
// client gives up when the receiving end has stored something.
func cutoffScript(ts *testscript.TestScript, neg bool, args []string) {
	verb, path, file := args[0], args[1], ts.MkAbs(args[2])
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f := connectFlags{state: filepath.Join(ts.Getenv("XDG_CONFIG_HOME"), "rcat"), key: ts.Getenv("KEY")}
	l, err := f.connect(verb, ts.Getenv("HOST")+":"+path)
	ts.Check(err)
	d := &sideeffect.Descriptor{Quota: sideeffect.NoQuota, Resume: true}
	if verb == "get" {
		root, name, err := split(file)
		ts.Check(err)
		defer root.Close()
		d.Local = sideeffect.File(root, name)
		d.Progress = func(sideeffect.Progress) { cancel() }
		if err := l.conclude(false, l.get(ctx, path, 0, d)); err == nil {
			ts.Fatalf("it was not cut off")
		}
		return
	}
	open, err := os.Open(file)
	ts.Check(err)
	defer open.Close()
	d.Local = halting{sideeffect.FD(open), func() error {
		defer cancel()
		return awaitBytes(filepath.Join(ts.MkAbs("root"), "."+path+".pannier-r*"), 256<<10)
	}}
	if err := l.conclude(false, l.put(ctx, path, nil, d)); ctx.Err() == nil {
		ts.Fatalf("it was not cut off: %v", err)
	}
	// The server's half ends a moment later, and only then is its file free.
	served := ts.Value(servingKey{}).(*serving)
	ts.Check(await("server's half", func() bool {
		return strings.Contains(served.messages.String(), "Rcat/Put")
	}))
}

// codeScript is "code N PROGRAM [ARG...]": exec of a program that has to end with N.
func codeScript(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || fmt.Sprint(exit.ExitCode()) != args[0] {
		ts.Fatalf("%v, not exit code %s", err, args[0])
	}
}

// readKeyScript is "readkey NAME FILE": it sets a variable to the line in a file.
func readKeyScript(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}
