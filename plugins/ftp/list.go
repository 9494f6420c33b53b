package ftp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"iter"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// entry is a line of a listing.
type entry struct {
	plugins.Attr
	self bool // the directory itself, or the one above
}

// List lists with MLSD, or with LIST in the directory, since what follows LIST is an option
// or a pattern to some servers. Entries whose names this end cannot say are left out, and
// the listing ends with an error that counts them.
func (s *session) List(ctx context.Context, dir string) iter.Seq2[plugins.Attr, error] {
	return func(yield func(plugins.Attr, error) bool) {
		stopped := false
		err := s.list(ctx, dir, func(a plugins.Attr) bool {
			stopped = !yield(a, nil)
			return !stopped
		})
		if err != nil && !stopped {
			yield(plugins.Attr{}, err)
		}
	}
}

func (s *session) list(ctx context.Context, dir string, yield func(plugins.Attr) bool) error {
	path, err := s.path(dir)
	if err != nil {
		return err
	}
	return s.with(ctx, func(c *conn) error {
		word, arg, parse := "MLSD", path, parseFacts
		if !s.feat.has("MLSD") && !s.feat.has("MLST") {
			if _, err := c.must(ctx, "CWD", path); err != nil {
				return err
			}
			word, arg = "LIST", ""
			now := time.Now()
			parse = func(line string) (entry, bool) { return parseList(line, now) }
		}
		t, err := c.transfer(ctx, word, arg, 0)
		if err != nil {
			return err
		}
		ok, bad, first, err := t.entries(parse, yield)
		if err != nil || !ok { // more would come
			t.close()
			c.kill()
			return err
		}
		if err := t.finish(); err != nil {
			return err
		}
		if strings.Contains(strings.ToLower(t.said), "truncated") { // pure-ftpd says so behind 226
			return c.said(fault.TooLong, word, path, "the server has left out entries: %s", fault.Shown(t.said)).
				Advise("raise how many it lists (LimitRecursion, or -L, of pure-ftpd), or keep fewer files in the directory")
		}
		if bad > 0 {
			return c.said(fault.Protocol, word, path, "%d lines of the listing are left out, because this end cannot tell the name from them or cannot use it; the first: %s", bad, fault.Shown(first))
		}
		return nil
	})
}

// entries yields those of a data connection. Not ok: nobody wants more.
func (t *data) entries(parse func(string) (entry, bool), yield func(plugins.Attr) bool) (ok bool, bad int, first string, err error) {
	r := bufio.NewReaderSize(t, maxLine)
	for n := 0; ; n++ {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return false, 0, "", t.c.said(fault.Protocol, t.word, t.path, "a line of the listing is longer than %d bytes", maxLine)
		}
		if err != nil && err != io.EOF {
			return false, 0, "", err
		}
		if n >= t.c.s.maxEntries+3 { // LIST begins with a total, MLSD has the directory itself and the one above
			return false, 0, "", t.c.said(fault.TooLong, t.word, t.path, "the listing has more than %d entries", t.c.s.maxEntries).Advise("raise max-entries, if there are so many")
		}
		text := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
		if text != "" && !strings.HasPrefix(text, "total ") {
			e, known := parse(text)
			switch {
			case known && e.self:
			case !known || strings.Contains(e.Name, "/") || plugins.CheckName("/"+e.Name) != nil:
				if bad++; bad == 1 {
					first = text[:min(len(text), 200)]
				}
			case !yield(e.Attr):
				return false, bad, first, nil
			}
		}
		if err == io.EOF {
			return true, bad, first, nil
		}
	}
}

// parseFacts reads "type=file;size=12;modify=20260102030405; name".
func parseFacts(line string) (entry, bool) {
	facts, name, ok := strings.Cut(line, " ")
	if !ok || name == "" {
		return entry{}, false
	}
	e := entry{Attr: plugins.Attr{Name: name, Size: -1}}
	for _, f := range strings.Split(facts, ";") {
		key, value, _ := strings.Cut(f, "=")
		switch strings.ToLower(key) {
		case "type":
			switch strings.ToLower(value) {
			case "cdir", "pdir":
				e.self, e.Dir = true, true
			case "dir":
				e.Dir = true
			}
		case "size":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 {
				return entry{}, false
			}
			e.Size = n
		case "modify":
			e.Modified, _ = parseTime(value)
		}
	}
	if e.Dir {
		e.Size = -1
	}
	return e, true
}

// parseTime reads 20260102030405 with or without a fraction, in UTC.
func parseTime(s string) (time.Time, error) {
	return time.Parse("20060102150405", s)
}

var (
	unixLine = regexp.MustCompile(`^([-dlbcps])[-rwxsStTlL]{9}[.+@]?\s+\d+\s+\S+\s+\S+\s+(\d+)\s+([A-Z][a-z]{2})\s+(\d{1,2})\s+(\d{1,2}:\d\d|\d{4}) (.+)$`)
	dosLine  = regexp.MustCompile(`^(\d\d-\d\d-(?:\d\d|\d{4}))\s+(\d\d:\d\d)(AM|PM)?\s+(<DIR>|\d+)\s+(.+)$`)
)

// parseList reads a line of LIST, in the form of ls -l or of DOS. Times are taken for UTC.
func parseList(line string, now time.Time) (entry, bool) {
	if m := unixLine.FindStringSubmatch(line); m != nil {
		e := entry{Attr: plugins.Attr{Name: m[6], Dir: m[1] == "d", Size: -1}, self: m[6] == "." || m[6] == ".."}
		if m[1] == "-" {
			n, err := strconv.ParseInt(m[2], 10, 64)
			if err != nil {
				return entry{}, false
			}
			e.Size = n
		}
		if m[1] == "l" {
			e.Name, _, _ = strings.Cut(e.Name, " -> ")
		}
		e.Modified = listTime(m[3]+" "+m[4], m[5], now)
		return e, true
	}
	if m := dosLine.FindStringSubmatch(line); m != nil {
		e := entry{Attr: plugins.Attr{Name: m[5], Dir: m[4] == "<DIR>", Size: -1}, self: m[5] == "." || m[5] == ".."}
		if !e.Dir {
			n, err := strconv.ParseInt(m[4], 10, 64)
			if err != nil {
				return entry{}, false
			}
			e.Size = n
		}
		for _, layout := range []string{"01-02-06 03:04PM", "01-02-2006 03:04PM", "01-02-06 15:04", "01-02-2006 15:04"} {
			if t, err := time.Parse(layout, m[1]+" "+m[2]+m[3]); err == nil {
				e.Modified = t
			}
		}
		return e, true
	}
	return entry{}, false
}

// listTime is of "Jan 2" and "15:04", of the last twelve months, or "2025".
func listTime(day, rest string, now time.Time) time.Time {
	if !strings.Contains(rest, ":") {
		t, _ := time.Parse("Jan 2 2006", day+" "+rest)
		return t
	}
	t, err := time.Parse("2006 Jan 2 15:04", strconv.Itoa(now.UTC().Year())+" "+day+" "+rest)
	if err == nil && t.After(now.Add(24*time.Hour)) {
		t = t.AddDate(-1, 0, 0)
	}
	return t
}
