// Command rcat is a remote cat: it copies files from and to a server as side
// effects of gRPC calls. It is the worked example of Pannier: read rcatpb/rcat.proto,
// server.go and client.go in that order, then run "rcat demo".
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
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main with everything it touches passed in; it returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, messages io.Writer) int {
	cmd := rootCommand()
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(messages)
	err := cmd.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(messages, "rcat:", err)
	}
	return exitCode(ctx, err)
}
