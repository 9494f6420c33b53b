// Command pannier measures, and will send and receive, files that travel beside
// gRPC calls.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main with everything it touches passed in; it returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, messages io.Writer) int {
	var a app
	cmd := a.rootCommand()
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(messages)
	err := cmd.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(messages, "pannier:", err)
	}
	return exitCode(err, a.partial)
}
