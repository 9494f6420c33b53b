package ftpd

import (
	"bufio"
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// line is an entry's in a listing; prefix is what the client has said before its name.
type line func(a plugins.Attr, prefix string) string

func (c *client) listCommand(arg string) reply {
	now := time.Now()
	return c.listing("LIST", arg, func(a plugins.Attr, _ string) string { return long(a, now) })
}

func (c *client) nlstCommand(arg string) reply {
	return c.listing("NLST", arg, func(a plugins.Attr, prefix string) string { return prefix + a.Name })
}

func (c *client) mlsdCommand(arg string) reply {
	return c.listing("MLSD", arg, func(a plugins.Attr, _ string) string { return c.entry(a, a.Name) })
}

// mlstCommand tells of one name, on the control connection.
func (c *client) mlstCommand(arg string) reply {
	return c.asking(arg, func(ctx context.Context, name string) reply {
		a, err := c.stat(ctx, name)
		if err != nil {
			return c.failed("MLST", name, err)
		}
		return reply{250, []string{"This is it:", c.entry(a, name), "End."}}
	})
}

// stat is Stat, of the root too where the node has no directories.
func (c *client) stat(ctx context.Context, name string) (plugins.Attr, error) {
	a, err := c.session.Stat(ctx, name)
	if err != nil && name == "/" {
		return plugins.Attr{Name: "/", Size: -1, Dir: true}, nil
	}
	return a, err
}

// long is an entry as ls -l has it, in UTC: with the time of day if it is of the last half
// year, with the year if not.
func long(a plugins.Attr, now time.Time) string {
	mode, form := "-rw-r--r--", "Jan _2 15:04"
	if a.Dir {
		mode = "drwxr-xr-x"
	}
	if age := now.Sub(a.Modified); age > 180*24*time.Hour || age < -time.Hour {
		form = "Jan _2  2006"
	}
	at := a.Modified
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	return fmt.Sprintf("%s 1 ftp ftp %12d %s %s", mode, max(a.Size, 0), at.UTC().Format(form), a.Name)
}

// listing sends what a name has: the entries of a directory, or the one file; to LIST and
// NLST also those that a pattern is of, which must be the last part.
func (c *client) listing(verb, arg string, say1 line) reply {
	c.rest = 0
	if verb != "MLSD" {
		arg = withoutFlags(arg)
	}
	name, bad := c.name(arg)
	if bad != nil {
		return *bad
	}
	l, ok := c.session.(plugins.Lister)
	if !ok || !c.can.List {
		return say(550, "%s: nothing is listed here", name)
	}
	return c.transfer(verb, name, func(t *transfer) reply { return t.list(l, arg, say1) })
}

// withoutFlags is what follows the options of ls, as clients send them: -la.
func withoutFlags(arg string) string {
	for strings.HasPrefix(arg, "-") {
		_, arg, _ = strings.Cut(arg, " ")
	}
	return arg
}

func (t *transfer) list(l plugins.Lister, arg string, say1 line) reply {
	dir, pattern, prefix := t.name, "", ""
	a, err := t.c.stat(t.ctx, t.name)
	switch {
	case err == nil && !a.Dir && t.verb == "MLSD":
		return say(501, "%s: not a directory", t.name)
	case err == nil && a.Dir:
		if prefix = arg; arg != "" && !strings.HasSuffix(arg, "/") {
			prefix += "/"
		}
	case err == nil:
		return t.lines(func(yield func(string) bool) error {
			a.Name = t.name
			if t.verb == "NLST" {
				a.Name = arg
			}
			yield(say1(a, ""))
			return nil
		})
	case fault.KindOf(err) == fault.NotFound && t.verb != "MLSD" && strings.ContainsAny(path.Base(t.name), "*?["):
		dir, pattern = path.Split(t.name)
		dir = path.Join("/", dir)
		prefix = arg[:strings.LastIndexByte(arg, '/')+1]
		if _, err := path.Match(pattern, ""); err != nil {
			return say(501, "%s: this is no pattern", pattern)
		}
	case t.ctx.Err() != nil:
		return *t.aborted()
	default:
		return t.c.failed(t.verb, t.name, err)
	}
	return t.lines(func(yield func(string) bool) error {
		n, bad, first := 0, 0, ""
		defer func() {
			if bad > 0 { // one line, however many a client has us list
				t.c.log.Warn("entries are left out of a listing: their names are none", "in", dir, "entries", bad, "first", first)
			}
		}()
		for a, err := range l.List(t.ctx, dir) {
			if err != nil {
				return err
			}
			if plugins.CheckName("/"+a.Name) != nil || strings.Contains(a.Name, "/") { // it would end a line
				if bad++; bad == 1 {
					first = a.Name
				}
				continue
			}
			if ok, _ := path.Match(pattern, a.Name); pattern != "" && !ok {
				continue
			}
			if n++; n > t.c.s.entries {
				return fault.New("list", fault.TooLong, "the listing has more than %d entries", t.c.s.entries)
			}
			if !yield(say1(a, prefix)) {
				return nil
			}
		}
		return nil
	})
}

// lines sends lines. The data connection is opened for the first one, so that a listing
// that fails at once is refused without.
func (t *transfer) lines(all func(yield func(string) bool) error) reply {
	var d *data
	var bad *reply
	var w *bufio.Writer
	begin := func() bool {
		if d == nil && bad == nil {
			if d, bad = t.open(); bad == nil {
				w = bufio.NewWriterSize(d, 32<<10)
			}
		}
		return bad == nil
	}
	err := all(func(s string) bool {
		if !begin() {
			return false
		}
		n, err := w.WriteString(s + "\r\n")
		t.bytes.Add(int64(n))
		if err != nil {
			bad = t.unsent(err)
		}
		return bad == nil
	})
	switch {
	case bad != nil:
	case t.ctx.Err() != nil:
		bad = t.aborted()
	case err != nil:
		r := t.c.failed(t.verb, t.name, err)
		if bad = &r; d != nil { // it has begun
			bad.code = 451
		}
	case !begin():
	default:
		if err = w.Flush(); err == nil {
			err = d.end()
		}
		if err != nil {
			bad = t.unsent(err)
		}
	}
	if bad != nil {
		if d != nil {
			d.reset()
		}
		return *bad
	}
	defer d.close()
	return say(226, "That was the listing.")
}
