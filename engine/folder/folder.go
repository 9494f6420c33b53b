package folder

import (
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// What a folder does with a file.
const (
	Keep   Action = 0
	Delete Action = 1
	Move   Action = 2
)

// Action is what is done with a file whose requests are over.
type Action uint8

func (a Action) String() string {
	return [...]string{"keep", "delete", "move"}[min(a, Move)]
}

// Defaults and least values of Folder.
const (
	DefaultStable   = 2 * time.Second
	DefaultInterval = time.Minute
	DefaultOpen     = 1000
	MinStable       = 20 * time.Millisecond // longer than a tick of any file system's clock
	MinInterval     = time.Second
)

// Folder is what one is to do. Names and paths are below the rule's root.
type Folder struct {
	Name      string   // unique; 1 to lifecycle.MaxName bytes
	Rule      string   // of direction send
	Root      string   // the rule's: an absolute directory
	Partners  []string // each gets a request for each file
	Dir       relpath.Path
	Recursive bool
	Include   []string // patterns of paths below Dir, as Matches has them; none: all
	Exclude   []string
	Stable    time.Duration // a version has to stay the same for so long
	Closed    bool          // or, where the kernel tells, until nobody has it open for writing
	MinAge    time.Duration
	DoneFile  string // template of the name of a file beside it; "": none is waited for
	After     Action
	To        relpath.Path // of Move
	Failed    Action       // Keep or Move
	FailedTo  relpath.Path
	Interval  time.Duration // between rescans
	Open      int           // most requests that are open
}

// Check refuses, as fault.Invalid, what cannot work. It does not look at the disk.
func (f *Folder) Check() error {
	bad := func(format string, args ...any) error {
		return fault.New("check folder", fault.Invalid, format, args...)
	}
	switch {
	case f.Name == "" || len(f.Name) > lifecycle.MaxName || strings.ContainsRune(f.Name, 0):
		return bad("its name has %d bytes; 1 to %d are allowed", len(f.Name), lifecycle.MaxName)
	case f.Rule == "" || f.Root == "" || f.Root[0] != '/':
		return bad("folder %q: a rule with a directory of this host as its root", f.Name)
	case len(f.Partners) == 0:
		return bad("folder %q: no partner", f.Name)
	case f.Stable < MinStable || f.Interval < MinInterval || f.Open < 1 || f.MinAge < 0:
		return bad("folder %q: stable is at least %v, interval %v, open 1", f.Name, MinStable, MinInterval)
	case f.After == Move && f.To.IsZero() || f.Failed == Move && f.FailedTo.IsZero():
		return bad("folder %q: to move needs a place", f.Name)
	case f.Failed == Delete:
		return bad("folder %q: a file that was not delivered is not deleted", f.Name)
	}
	for _, at := range []relpath.Path{f.To, f.FailedTo} {
		if !at.IsZero() && (at == f.Dir || below(at, f.Dir.String())) {
			return bad("folder %q: %q is the folder, or around it: files would be found there again", f.Name, at)
		}
	}
	for _, p := range slices.Concat(f.Include, f.Exclude) {
		if err := CheckPattern(p); err != nil {
			return err
		}
	}
	return CheckDoneFile(f.DoneFile)
}

// below reports whether name lies below dir, in text.
func below(dir relpath.Path, name string) bool {
	return dir.IsZero() && name != "" || strings.HasPrefix(name, dir.String()+"/")
}

// CheckPattern refuses, as fault.Invalid, what is no pattern.
func CheckPattern(p string) error {
	if p == "" || !doublestar.ValidatePattern(p) {
		return fault.New("read pattern", fault.Invalid, "%q is no pattern: as \"*.xml\", \"in/**/*.csv\" or \"{a,b}*\"", p)
	}
	return nil
}

// Matches reports whether a path below the folder fits one of the patterns. One without a
// slash is of the last element, in whichever directory.
func Matches(patterns []string, path string) (which string, ok bool) {
	for _, p := range patterns {
		name := path
		if !strings.Contains(p, "/") {
			name = path[strings.LastIndexByte(path, '/')+1:]
		}
		if doublestar.MatchUnvalidated(p, name) {
			return p, true
		}
	}
	return "", false
}

// CheckDoneFile refuses, as fault.Invalid, a template that is no name of one element, or has more
// than one variable: of a done file's name it could not be told whose it is.
func CheckDoneFile(t string) error {
	if t == "" {
		return nil
	}
	bad := func(why string) error {
		return fault.New("read done_file", fault.Invalid, "%q %s: as \"{name}.done\", \"{stem}.ok\" or \"READY\"", t, why)
	}
	if rest := strings.NewReplacer("{name}", "", "{stem}", "").Replace(t); rest == "" || strings.Count(t, "{") > 1 {
		return bad("fits any file: one of {name} and {stem}, and something around it")
	}
	if p, err := relpath.Parse(doneName(t, "x.y")); err != nil || p.Base() != p.String() || strings.ContainsAny(doneName(t, "x"), "{}") {
		return bad("is no name of a file beside it")
	}
	return nil
}

// doneName is the done file of a file of that name.
func doneName(template, name string) string {
	stem := name
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		stem = name[:i]
	}
	return strings.NewReplacer("{name}", name, "{stem}", stem).Replace(template)
}

// isDone reports whether a file of that name is a done file of some other.
func isDone(template, name string) bool {
	if template == "" {
		return false
	}
	before, rest, ok := strings.Cut(template, "{")
	if !ok {
		return name == template
	}
	_, after, _ := strings.Cut(rest, "}")
	_, ok = between(before, after, name)
	return ok
}

// between is what a name has between its beginning and its end, and whether it has both and something in between.
func between(before, after, name string) (string, bool) {
	name, begins := strings.CutPrefix(name, before)
	name, ends := strings.CutSuffix(name, after)
	return name, begins && ends && name != ""
}

// isOwnDone reports whether a done file is of one file only, and goes with it.
func isOwnDone(template string) bool { return strings.Contains(template, "{name}") }
