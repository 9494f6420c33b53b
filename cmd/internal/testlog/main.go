// Command testlog reads what "go test -json" writes and prints what go test
// would have printed without -json, and at the end, on stderr, every test that was
// skipped and why. With -strict skips that are not in the file -allow fail:
//
//	go test -json ./... | testlog -strict -allow .ci/skips
//
// A line of that file is "PACKAGE TEST REASON..."; "#" begins a comment; "/..." behind a
// test means it and all in it. It cannot stand in for go test's own exit code: use pipefail.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	verbose := flag.Bool("v", false, "print everything, as go test -v does")
	strict := flag.Bool("strict", false, "fail on skipped tests that are not allowed")
	allow := flag.String("allow", "", "file of the tests that may be skipped")
	flag.Parse()
	os.Exit(run(os.Stdin, os.Stdout, os.Stderr, *verbose, *strict, *allow))
}

func run(in io.Reader, out, messages io.Writer, verbose, strict bool, allow string) int {
	allowed, err := readAllowed(allow)
	if err != nil {
		fmt.Fprintln(messages, "testlog:", err)
		return 2
	}
	l := &log{out: out, verbose: verbose, packages: map[string]*record{}}
	if err := l.read(in); err != nil {
		fmt.Fprintln(messages, "testlog:", err)
		return 2
	}
	forbidden := 0
	for _, s := range l.skipped {
		switch {
		case s.mayBe(allowed):
			fmt.Fprintf(messages, "SKIPPED, as allowed: %v\n", s)
		case strict:
			forbidden++
			fmt.Fprintf(messages, "SKIPPED, BUT MUST RUN HERE: %v\n", s)
		default:
			fmt.Fprintf(messages, "SKIPPED: %v\n", s)
		}
	}
	if forbidden > 0 {
		fmt.Fprintf(messages, "testlog: %d tests were skipped on a system that has all they need\n", forbidden)
		return 1
	}
	return 0
}
