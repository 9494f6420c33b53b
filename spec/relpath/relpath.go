// Package relpath is the one name type of Pannier: a relative path that cannot
// leave the directory it is used in.
//
// The grammar is closed against what names can hide (spec/sideeffect.md,
// "Names"); symbolic links are the business of os.Root, which every user of a
// Path opens it under.
package relpath

import (
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pannier/pannier/spec/fault"
)

// Limits in bytes.
const (
	MaxPath    = 1024
	MaxElement = 255
)

// A Path is elements joined by "/", made only by Parse, Join and Dir. The
// zero Path names nothing and is refused by those who open names. Paths are
// compared with ==.
//
//	1 <= len(path) <= MaxPath, 1 <= len(element) <= MaxElement
type Path struct{ s string }

// Parse accepts s as a Path. The error is fault.TooLong for a name over a
// limit, otherwise fault.Invalid, and says what is wrong with it without
// repeating bytes that could confuse a terminal.
func Parse(s string) (Path, error) {
	switch {
	case len(s) > MaxPath:
		return Path{}, fault.New("parse name", fault.TooLong, "%d bytes, at most %d are allowed", len(s), MaxPath)
	case s == "":
		return Path{}, refuse("the name is empty")
	case !utf8.ValidString(s):
		return Path{}, refuse("the name is not valid UTF-8")
	}
	for i, r := range s {
		if r == '\\' {
			return Path{}, refuse("backslash at byte %d", i)
		}
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return Path{}, refuse("control character %U at byte %d", r, i)
		}
	}
	for i, e := range strings.Split(s, "/") {
		if err := checkElement(i, e); err != nil {
			return Path{}, err
		}
	}
	if !filepath.IsLocal(s) {
		return Path{}, refuse("the name is not local on this system")
	}
	return Path{s}, nil
}

func checkElement(i int, e string) error {
	switch {
	case e == "":
		return refuse("element %d is empty (a slash at the start, the end, or twice)", i+1)
	case e == "." || e == "..":
		return refuse("element %d is %q", i+1, e)
	case len(e) > MaxElement:
		return fault.New("parse name", fault.TooLong, "element %d has %d bytes, at most %d are allowed", i+1, len(e), MaxElement)
	}
	return nil
}

func refuse(format string, args ...any) error {
	return fault.New("parse name", fault.Invalid, format, args...)
}

// String is the path as it was parsed; "" for the zero Path.
func (p Path) String() string { return p.s }

// IsZero reports whether p names nothing.
func (p Path) IsZero() bool { return p.s == "" }

// Base is the last element; "" for the zero Path.
func (p Path) Base() string { return p.s[strings.LastIndexByte(p.s, '/')+1:] }

// Dir is everything but the last element; the zero Path when there is only
// one, because the root itself has no name.
func (p Path) Dir() Path { return Path{p.s[:max(0, strings.LastIndexByte(p.s, '/'))]} }

// Join is p with more elements below it, parsed like Parse; each elem may
// itself have several. Joining to the zero Path is Parse.
func (p Path) Join(elem ...string) (Path, error) {
	all := make([]string, 0, len(elem)+1)
	if !p.IsZero() {
		all = append(all, p.s)
	}
	return Parse(strings.Join(append(all, elem...), "/"))
}
