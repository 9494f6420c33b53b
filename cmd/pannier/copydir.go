package main

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// choice is which files of a directory are copied.
type choice struct {
	include, exclude []string // patterns of paths below it, as folder.Matches has them
	existing         string   // what becomes of files that the destination has: replace, skip or newer
	update           bool     // existing = newer
}

// partNames are names of files that bridges have not finished.
var partNames = []string{"*.pannier-????????????.part", ".*pannier-*"}

// deepest is how many directories may lie in one another: at more, a link leads back.
const deepest = 64

func (s *choice) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&s.include, "include", nil, "of a directory only files that fit this `PATTERN`, or another one")
	flags.StringArrayVar(&s.exclude, "exclude", nil, "of a directory no files and directories that fit this `PATTERN`")
	flags.StringVar(&s.existing, "existing", replaceAll, "of a directory, `WHICH` files that the destination has by their name are replaced: replace, all; newer, those that are older there or have another size; skip, none")
	flags.BoolVar(&s.update, "update", false, "the same as --existing newer")
	choices(cmd, "existing", replaceAll, replaceOlder, replaceNone)
}

// What becomes of files that the destination has.
const (
	replaceAll   = "replace"
	replaceOlder = "newer"
	replaceNone  = "skip"
)

// given says whether any of it was asked for.
func (s *choice) given() bool {
	return s.update || s.existing != replaceAll || len(s.include)+len(s.exclude) > 0
}

func (s *choice) check() error {
	switch {
	case s.existing != replaceAll && s.existing != replaceOlder && s.existing != replaceNone:
		return fault.New("read flags", fault.Invalid, "--existing %.100q: it is %s, %s or %s", s.existing, replaceAll, replaceOlder, replaceNone)
	case s.update && s.existing == replaceNone:
		return fault.New("read flags", fault.Invalid, "--update is --existing %s, and --existing %s was said, too", replaceOlder, replaceNone)
	case s.update:
		s.existing = replaceOlder
	}
	for _, p := range slices.Concat(s.include, s.exclude) {
		if err := folder.CheckPattern(p); err != nil {
			return err
		}
	}
	return nil
}

// takes says whether a file is one to copy.
func (s *choice) takes(name string) bool {
	if _, no := folder.Matches(slices.Concat(partNames, s.exclude), name); no {
		return false
	}
	_, yes := folder.Matches(s.include, name)
	return yes || len(s.include) == 0
}

// tree is a walk through a directory of a bridge.
type tree struct {
	client   *admin.Client
	from, at string // bridge, directory
	to, into string // the same of the destination
	choice   *choice
	files    []string // below the directory
	left     int      // files that are left out, since they are there
	seen     int      // entries
}

// mostSeen is how many entries a directory, with all below it, may have: each is kept in memory
// until all are known.
var mostSeen = 1_000_000

// walk lists a directory and those below it. depth is how far that is below the first.
func (t *tree) walk(ctx context.Context, below string, depth int) error {
	where := path.Join(t.at, below)
	if depth > deepest {
		return fault.New("list", fault.Invalid, "%s:/%s: %d directories in one another: exclude the link that leads back", t.from, where, depth)
	}
	there := map[string]*adminpb.BrowseEntry{}
	if t.choice.existing != replaceAll {
		at := path.Join(t.into, below)
		s, err := t.client.Browse(ctx, &adminpb.BrowseRequest{Partner: t.to, Path: at})
		err = each(s, err, func(e *adminpb.BrowseEntry) error { there[e.GetName()] = e; return nil })
		if err != nil && fault.KindOf(err) != fault.NotFound {
			return fault.Wrap("list", t.to+":/"+at, err)
		}
	}
	var dirs []string
	s, err := t.client.Browse(ctx, &adminpb.BrowseRequest{Partner: t.from, Path: where})
	err = each(s, err, func(e *adminpb.BrowseEntry) error {
		name := path.Join(below, e.GetName())
		if t.seen++; t.seen > mostSeen {
			return fault.New("list", fault.TooLong, "there are more than %d files and directories: copy some of its directories at a time, or --exclude them", mostSeen)
		}
		switch _, no := folder.Matches(t.choice.exclude, name); {
		case e.GetDirectory() && !no:
			dirs = append(dirs, name)
		case e.GetDirectory() || !t.choice.takes(name):
		case t.choice.keeps(e, there[e.GetName()]):
			t.left++
		default:
			t.files = append(t.files, name)
		}
		return nil
	})
	if err != nil {
		return fault.Wrap("list", t.from+":/"+where, err)
	}
	for _, d := range dirs {
		if err := t.walk(ctx, d, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// keeps says whether the destination keeps what it has by the name of a file; nil: it has none.
func (s *choice) keeps(from, to *adminpb.BrowseEntry) bool {
	return s.existing == replaceNone && to != nil || s.existing == replaceOlder && same(from, to)
}

// same says whether the destination's file need not be replaced: it has the size, and is not
// older. Servers whose listings have minutes do not say more.
func same(from, to *adminpb.BrowseEntry) bool {
	if to == nil || to.GetDirectory() || from.GetSize() < 0 || from.GetSize() != to.GetSize() || from.GetModified() == nil || to.GetModified() == nil {
		return false
	}
	return !to.GetModified().AsTime().Before(from.GetModified().AsTime().Truncate(time.Minute))
}

// below are the names of the files of a directory of a bridge that are to be copied.
func (s *choice) below(ctx context.Context, client *admin.Client, from, at, to, into string) ([]string, error) {
	t := &tree{client: client, from: from, at: strings.Trim(at, "/"), to: to, into: strings.Trim(into, "/"), choice: s}
	if err := t.walk(ctx, "", 0); err != nil {
		return nil, err
	}
	if len(t.files) == 0 && t.left == 0 {
		return nil, fault.New("list", fault.NotFound, "%s:/%s/ has no file that is to be copied", from, t.at)
	}
	return t.files, nil
}
