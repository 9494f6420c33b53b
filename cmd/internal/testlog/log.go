package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// maxLine bounds a line of go test -json.
const maxLine = 16 << 20

// event is a line of go test -json: the TestEvent of cmd/test2json, or a
// BuildEvent of cmd/go.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// record is what a package has printed so far.
type record struct {
	own   []string // outside of tests
	tests map[string]*testRecord
	order []string // of tests
}

type testRecord struct {
	output []string
	passed bool // or skipped
}

// skip is a test that was skipped.
type skip struct{ pkg, test, reason string }

func (s skip) name() string { return s.pkg + " " + s.test }

func (s skip) String() string { return s.name() + ": " + s.reason }

// log is the state of one reading.
type log struct {
	out      io.Writer
	verbose  bool
	packages map[string]*record // not over yet
	skipped  []skip
	failed   bool // some package
}

func (l *log) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Action == "" {
			fmt.Fprintln(l.out, lines.Text()) // not an event: what go itself has to say
			continue
		}
		l.take(e)
	}
	if l.failed {
		fmt.Fprintln(l.out, "FAIL") // as go test ends; -json leaves it out
	}
	return lines.Err()
}

func (l *log) take(e event) {
	if e.Package == "" { // build-output, build-fail
		fmt.Fprint(l.out, e.Output)
		return
	}
	r := l.packages[e.Package]
	if r == nil {
		r = &record{tests: map[string]*testRecord{}}
		l.packages[e.Package] = r
	}
	switch {
	case e.Action == "output" && l.verbose:
		fmt.Fprint(l.out, e.Output)
		fallthrough
	case e.Action == "output":
		r.add(e.Test, e.Output)
	case e.Test != "" && (e.Action == "pass" || e.Action == "skip"):
		t := r.test(e.Test)
		t.passed = true
		if e.Action == "skip" {
			l.skipped = append(l.skipped, skip{e.Package, e.Test, reason(t.output)})
		}
		t.output = nil
	case e.Test == "" && slices.Contains([]string{"pass", "fail", "skip"}, e.Action):
		l.failed = l.failed || e.Action == "fail"
		if !l.verbose {
			r.print(l.out, e.Action == "fail")
		}
		delete(l.packages, e.Package)
	}
}

func (r *record) test(name string) *testRecord {
	t := r.tests[name]
	if t == nil {
		t = &testRecord{}
		r.tests[name] = t
		r.order = append(r.order, name)
	}
	return t
}

func (r *record) add(test, output string) {
	if test == "" {
		r.own = append(r.own, output)
		return
	}
	t := r.test(test)
	t.output = append(t.output, output)
}

// print shows of a package that failed the tests that did not pass and all that
// was printed outside of tests; of another one only go test's closing line.
func (r *record) print(w io.Writer, failed bool) {
	if !failed {
		for _, line := range r.own {
			if strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "?   \t") || strings.HasPrefix(line, "\t") {
				fmt.Fprint(w, line)
			}
		}
		return
	}
	for _, name := range r.order {
		if t := r.tests[name]; !t.passed {
			for _, line := range t.output {
				if !strings.HasPrefix(line, "=== ") {
					fmt.Fprint(w, line)
				}
			}
		}
	}
	fmt.Fprint(w, strings.Join(r.own, ""))
}

// reason is what a skipped test has logged.
func reason(output []string) string {
	var said []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- SKIP") {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}

// mayBe reports whether a test may be skipped: it is allowed, or it or one around it is
// with "/...".
func (s skip) mayBe(allowed map[string]bool) bool {
	if allowed[s.name()] {
		return true
	}
	for name, below := s.test, true; below; {
		if allowed[s.pkg+" "+name+"/..."] {
			return true
		}
		i := strings.LastIndexByte(name, '/')
		if below = i >= 0; below {
			name = name[:i]
		}
	}
	return false
}

// readAllowed reads the tests that may be skipped.
func readAllowed(file string) (map[string]bool, error) {
	allowed := map[string]bool{}
	if file == "" {
		return allowed, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		switch {
		case len(f) >= 3:
			allowed[f[0]+" "+f[1]] = true
		case len(f) > 0:
			return nil, fmt.Errorf("%s: %q is not a package, a test and a reason", file, line)
		}
	}
	return allowed, nil
}
