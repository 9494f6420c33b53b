package schedule

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// From a source with variables to the files that it means.

// braced is a variable; braces with a comma are a pattern's.
var braced = regexp.MustCompile(`\{([^{},]*)\}`)

// values are the variables at a time, and, unless file is empty, of a file.
func values(at time.Time, file string) map[string]string {
	all := map[string]string{
		"date": at.Format(time.DateOnly), "time": at.Format("150405"), "year": at.Format("2006"), "month": at.Format("01"), "day": at.Format("02"),
		"hour": at.Format("15"), "minute": at.Format("04"), "yesterday": at.AddDate(0, 0, -1).Format(time.DateOnly),
	}
	if file != "" {
		name := path.Base(file)
		stem := name
		if i := strings.LastIndexByte(name, '.'); i > 0 {
			stem = name[:i]
		}
		all["path"], all["name"], all["stem"], all["ext"] = file, name, stem, name[len(stem):]
	}
	return all
}

// variables lists them, for people.
func variables(ofFile bool) string {
	file := ""
	if ofFile {
		file = "x"
	}
	names := slices.Sorted(maps.Keys(values(time.Time{}, file)))
	return "{" + strings.Join(names, "}, {") + "}"
}

// expand puts values in the place of variables, once, from left to right.
func expand(text string, of map[string]string, ofFile bool) (_ string, err error) {
	out := braced.ReplaceAllStringFunc(text, func(s string) string {
		v, ok := of[s[1:len(s)-1]]
		if !ok && err == nil {
			err = fault.New("read name", fault.Invalid, "%s is no variable: there are %s", s, variables(ofFile))
		}
		return v
	})
	return out, err
}

func hasMeta(s string) bool { return strings.ContainsAny(s, "*?[{\\") }

func checkPattern(p string) error {
	if !doublestar.ValidatePattern(p) || path.IsAbs(p) || slices.Contains(strings.Split(p, "/"), "..") {
		return fault.New("read pattern", fault.Invalid, "%q is no pattern of names below the rule's root: as \"out/*.xml\" or \"**/*.csv\"", p)
	}
	return nil
}

// parse reads a name that a request may have.
func parse(name string) (relpath.Path, error) {
	p, err := relpath.Parse(name)
	if err == nil {
		err = sideeffect.RefuseOwn("read name", p)
	}
	return p, err
}

// files are what the source means at a time. Of a pattern: the files that are there, in
// order; odd are those that no request can name. TooLong: there are more than that.
func (s *Schedule) files(ctx context.Context, at time.Time, most int) (all []relpath.Path, odd []string, err error) {
	text, err := expand(s.Source, values(at, ""), false)
	if err != nil {
		return nil, nil, err
	}
	if !hasMeta(text) {
		p, err := parse(text)
		return []relpath.Path{p}, nil, err
	}
	const op = "look for files"
	root, err := engine.OpenRoot(s.Root)
	if err != nil {
		return nil, nil, fault.Wrap(op, s.Root, err)
	}
	defer root.Close()
	if err := isDir(root, text); err != nil {
		return nil, nil, err
	}
	err = doublestar.GlobWalk(root.FS(), text, func(name string, d fs.DirEntry) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !d.Type().IsRegular() || sideeffect.IsOwn(path.Base(name)) {
			return nil
		}
		p, err := parse(name)
		if err != nil {
			odd = append(odd, name)
			return nil
		}
		if all = append(all, p); len(all) > most {
			return fault.New(op, fault.TooLong, "%q fits more than %d files: narrow the pattern, or watch the directory with a [[folder]]", text, most)
		}
		return nil
	}, doublestar.WithNoFollow(), doublestar.WithFailOnIOErrors())
	slices.SortFunc(all, func(a, b relpath.Path) int { return strings.Compare(a.String(), b.String()) })
	return all, odd, fault.Wrap(op, s.Root, err)
}

// isDir refuses, as NotFound, a pattern of files in a directory that is not there: no file fits it,
// which nobody would notice.
func isDir(root *os.Root, pattern string) error {
	base, _ := doublestar.SplitPattern(pattern)
	fi, err := root.Stat(base)
	whole := path.Join(root.Name(), base)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !fi.IsDir():
		return fault.New("look for files", fault.NotFound, "there is no directory %s: make it, or mend the schedule's source", whole)
	case err != nil:
		return fault.Wrap("look for files", whole, err)
	}
	return nil
}

// target is the name at the receiver of a file.
func (s *Schedule) target(file relpath.Path, at time.Time) (relpath.Path, error) {
	if s.Target == "" {
		return file, nil
	}
	text, err := expand(s.Target, values(at, file.String()), true)
	if err != nil {
		return relpath.Path{}, err
	}
	return parse(text)
}
