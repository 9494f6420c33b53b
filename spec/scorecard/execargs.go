package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// roleChild is this program as the command of a task: it writes into a folder
// what it was started with. "child FOLDER -- ARGUMENTS".
const roleChild = "child"

// seen is what a command was started with.
type seen struct {
	Args    []string // after "--"
	Env     []string
	Parents []string // programs, from its parent up
	Parent  int
}

// childRole says where it is, what it got, and who has started it.
func childRole(args []string) error {
	if len(args) < 2 || args[1] != "--" {
		return fault.New("run child", fault.Invalid, "the role is started by the scorecard itself")
	}
	s := seen{Args: args[2:], Env: os.Environ(), Parent: os.Getppid()}
	for pid := os.Getppid(); pid > 1; {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			break
		}
		_, rest, _ := strings.Cut(string(stat), "(")
		i := strings.LastIndexByte(rest, ')')
		s.Parents = append(s.Parents, rest[:i])
		if pid, err = strconv.Atoi(strings.Fields(rest[i+1:])[1]); err != nil {
			break
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(args[0], "seen")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return fault.Wrap("write", f.Name(), errors.Join(err, f.Close()))
}

// Names that would be something else to a shell, a formatter, a template, a
// program's options. What they would run makes a file "pwned" where it runs.
var execNames = []string{
	"a;touch pwned", "$(touch pwned)", "`touch pwned`", "a && touch pwned", "a|touch pwned", "a & touch pwned", "x > pwned", "x < pwned",
	"';touch pwned;'", "\";touch pwned;\"", "it's", `say "hi"`, "*", "?", "[a-z]*", "{a,b}", "~", "~root", "#not a comment", "!!", "^a^b",
	"%s%n%d", "%PATH%", "$PATH", "${IFS}", "$IFS$9touch$IFS$9pwned", "{path}", "{{info}}", "}}", "{", " leading", "trailing ", "a  b", "a=b", "=a", "(touch pwned)",
	"-rf", "--help", "-", "--", "-o pwned", "d/-rf", "$(touch x)/y", "é", "\u202egnp.exe", "日本", "\U0001F600", "a\u00a0b", "@pwned", "@(a)", "a:b", "a,b", "a+b",
}

// Information that is not a name: it may have what no name may.
var execInfos = append([]string{
	"", "a\ntouch pwned\n", "\n", "a\r\nb", "a\tb", `a\`, `\$(touch pwned)`, `a\nb`, "\x1b[31mred", "\u2028", strings.Repeat("x", 4000),
}, execNames...)

// Node names: one to 64 bytes without spaces, / \ # % and ?. A lone * is none: it means every partner.
var execNodes = []string{"$(touch${IFS}pwned)", "`touch${IFS}pwned`", "-rf", "n;touch${IFS}pwned", `a'b"c`, "{path}{info}", "*x"}

// execRefused are names that no request is registered for.
var execRefused = []string{"a\nb", "a\x00b", "a\\b", "../x", "/etc/passwd", "a\x1bb", "", ".", "a//b", "a/", "\u2028", "a\rb"}

var execArgs = check{
	id: 37, title: "shell, format, template and option characters in file name, information and partner's name, at both ends: each is one argument, unchanged, or refused before anything runs; no shell is in between",
	unit: "mismatches", n: counts{reduced: 1, full: 7},
	mutant: "the command is run by sh -c",
	edits: []edit{{"engine/task/exec.go", "	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)\n",
		"	if mutant(\"37\") {\n		argv = []string{\"/bin/sh\", \"-c\", strings.Join(argv, \" \")}\n	}\n	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)\n"}},
	run: runExecArgs,
}

// execRun is one pair of daemons of hostile names.
type execRun struct {
	*fleet
	*note
	dir   string // what commands have seen
	cases int
	ran   int
}

func runExecArgs(ctx context.Context, j *job) (result, error) {
	var w note
	cases, ran := 0, 0
	for i := range j.n {
		r := &execRun{note: &w, dir: filepath.Join(j.dir, fmt.Sprint("seen", i))}
		err := os.Mkdir(r.dir, 0o700)
		if err == nil {
			err = r.run(ctx, filepath.Join(j.dir, strconv.Itoa(i)), execNodes[i%len(execNodes)])
		}
		if err != nil {
			return result{}, err
		}
		cases, ran = cases+r.cases, ran+r.ran
	}
	return w.result(float64(w.n), "%d cases, %d commands run", cases, ran), nil
}

func (r *execRun) run(ctx context.Context, dir, name string) (err error) {
	if r.fleet, err = newFleet(dir, 2); err != nil {
		return err
	}
	defer r.close()
	self, err := os.Executable()
	if err != nil {
		return fault.Wrap("find program", "", err)
	}
	for i, n := range r.all {
		n.Name = []string{name, name + "2"}[i]
	}
	vars := []string{"{path}", "{info}", "{partner}", "{requester}", "{node}", "<{info}|{name}>", "{{info}}", "{side}"}
	seenBy := argvOf(", warning = []", append([]string{self, roleChild, r.dir, "--"}, vars...)...)
	bare := argvOf(", warning = []", self, roleChild, r.dir, "{info}")
	err = r.write(nil, nil, pushRule("push", "post = ["+seenBy+"]\nretry = { attempts = 1 }")+pushRule("bare", "sender = { pre = ["+bare+"] }"))
	if err == nil {
		err = r.start(ctx)
	}
	if err != nil {
		return err
	}
	var all []execCase
	for i, name := range execNames {
		all = append(all, execCase{name: name, info: execInfos[i]})
	}
	for i, info := range execInfos[len(execNames):] {
		all = append(all, execCase{name: fmt.Sprint("plain", i), info: info})
	}
	if err := r.sendAll(ctx, all); err != nil {
		return err
	}
	if err := r.refused(ctx); err != nil {
		return err
	}
	for _, n := range r.all {
		if _, err := os.Stat(filepath.Join(n.Root, "pwned")); err == nil {
			r.add("a command of a name was run at %q", n.Name)
		}
	}
	return nil
}

// execCase is a file of that name with that information.
type execCase struct{ name, info, id string }

// sendAll sends files, and wants what the commands at both ends were started with.
func (r *execRun) sendAll(ctx context.Context, all []execCase) error {
	for i := range all {
		c := &all[i]
		r.cases++
		at := filepath.Join(r.all[0].Root, c.name)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			return fault.Wrap("make directory", "", err)
		}
		if err := os.WriteFile(at, []byte("x"), 0o600); err != nil {
			return fault.Wrap("make file", "", err)
		}
		var err error
		if c.id, err = r.submit(ctx, r.all[1], "push", c.name, "", c.info); err != nil {
			r.add("%q, %q: %v", c.name, c.info, err)
		}
	}
	for _, c := range all {
		for _, n := range r.all {
			if q, err := ended(ctx, n, c.id); err != nil || q.GetState() != adminpb.Request_DONE {
				r.add("%q, %.80q: %v: %.200s %v", c.name, c.info, q.GetState(), q.GetFailure().GetCause(), err)
				break // the other end may know nothing of it
			}
		}
	}
	seen := r.seen()
	r.ran = len(seen)
	for _, c := range all {
		for i, n := range r.all {
			r.compare(seen, n.PID(), c.info, []string{c.name, c.info, r.all[1-i].Name, r.all[0].Name, n.Name,
				"<" + c.info + "|" + filepath.Base(c.name) + ">", "{info}", []string{"sender", "receiver"}[i]})
		}
	}
	return nil
}

// seen is all that commands have written.
func (r *execRun) seen() (all []seen) {
	files, _ := filepath.Glob(filepath.Join(r.dir, "seen*"))
	for _, f := range files {
		var s seen
		if text, err := os.ReadFile(f); err == nil && json.Unmarshal(text, &s) == nil {
			all = append(all, s)
		}
	}
	return all
}

// compare wants one command that the daemon has started itself, with these
// arguments, and the information in its environment.
func (r *execRun) compare(all []seen, daemon int, info string, want []string) {
	found := 0
	for _, s := range all {
		if s.Parent != daemon || !slices.Equal(s.Args, want) || !slices.Contains(s.Env, "PANNIER_INFO="+info) {
			continue
		}
		found++
		if slices.Contains(shells, s.Parents[0]) {
			r.add("a shell, %s, has started it", s.Parents[0])
		}
	}
	if found != 1 {
		r.add("%d commands of the daemon got %.80q", found, want)
	}
}

// shells are programs that must not be a command's parent.
var shells = []string{"sh", "dash", "bash", "busybox", "ash", "zsh", "ksh"}

// refused wants names that are none, options without "--" and NULs to run nothing.
func (r *execRun) refused(ctx context.Context) error {
	for _, name := range execRefused {
		r.cases++
		if id, err := r.submit(ctx, r.all[1], "push", name, "", ""); err == nil {
			r.add("%q was registered as %s", name, id)
		}
	}
	for _, info := range []string{"-rf", "--help", "-", "a\x00b"} {
		r.cases++
		id, err := r.submit(ctx, r.all[1], "bare", "plain", "", info)
		if err != nil {
			r.add("%q: %v", info, err)
			continue
		}
		q, err := ended(ctx, r.all[0], id)
		if err != nil {
			return err
		}
		if q.GetState() != adminpb.Request_INERROR || q.GetFailure().GetKind() != uint32(fault.Invalid) || len(r.seen()) != r.ran {
			r.add("%q without --: %v, %s", info, q.GetState(), q.GetFailure().GetCause())
		}
	}
	return nil
}
