package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pannier/pannier/spec/fault"
)

// problem is one thing that is wrong with a file.
type problem struct {
	at   span
	text string
	hint string     // what is allowed there; may be empty
	kind fault.Kind // if there is nothing else; 0: Invalid
}

// problems are all that is wrong with a file. It is an error.
type problems struct {
	file  string
	data  []byte // the file and what comes with it, one after the other
	parts []part // what comes with the file
	list  []problem
	at    map[span]bool // where they are
}

// part is a text that comes with a file.
type part struct {
	name     string
	start    int  // in problems.data
	applying bool // as Source
}

const (
	mostProblems = 50  // that are printed
	widest       = 160 // characters of a line that are printed
)

// add notes a problem at a place.
func (p *problems) add(at span, hint, format string, args ...any) {
	if p.at == nil {
		p.at = map[span]bool{}
	}
	p.at[at] = true
	p.list = append(p.list, problem{at: at, text: fmt.Sprintf(format, args...), hint: hint})
}

// noted reports whether there is a problem with that value already.
func (p *problems) noted(v *value) bool { return p.at[v.place] }

// err is nil without problems.
func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	slices.SortStableFunc(p.list, func(a, b problem) int { return a.at.offset - b.at.offset })
	p.list = slices.CompactFunc(p.list, func(a, b problem) bool { return a == b })
	kind := p.list[0].kind
	for i := range p.list {
		if p.list[i].kind != kind || kind == 0 {
			kind = fault.Invalid
		}
	}
	return &fault.Error{Op: "read configuration", Kind: kind, Err: p}
}

// Lines are what is wrong with a file, each in a line of its own, if err is of
// Load or Parse; else the one line of err.
func Lines(err error) []string {
	var p *problems
	if !errors.As(err, &p) {
		return []string{err.Error()}
	}
	lines := make([]string, min(len(p.list), mostProblems))
	for i := range lines {
		lines[i], _, _ = p.head(&p.list[i])
	}
	return lines
}

// Error is a line on how many there are, then for each where it is, what it is, the line
// with a mark under it, and what is allowed there.
func (p *problems) Error() string {
	var b strings.Builder
	if len(p.list) == 1 {
		b.WriteString("1 problem")
	} else {
		fmt.Fprintf(&b, "%d problems", len(p.list))
	}
	for i := range p.list {
		if i == mostProblems {
			fmt.Fprintf(&b, "\nand %d more", len(p.list)-i)
			break
		}
		p.write(&b, &p.list[i])
	}
	return b.String()
}

// head says where a problem is and what it is. start is where its line begins,
// before what stands in front of it there.
func (p *problems) head(one *problem) (text string, start int, before []rune) {
	start = bytes.LastIndexByte(p.data[:one.at.offset], '\n') + 1
	before = printable(p.data[start:one.at.offset])
	name := p.source(start).name
	return fmt.Sprintf("%s:%d:%d: %s", name, p.row(start), len(before)+1, one.text), start, before
}

// source is the text that an offset is in.
func (p *problems) source(offset int) part {
	in := part{name: p.file}
	for _, s := range p.parts {
		if s.start <= offset {
			in = s
		}
	}
	return in
}

// row is the number of a line in its text.
func (p *problems) row(start int) int {
	return bytes.Count(p.data[p.source(start).start:start], []byte("\n")) + 1
}

func (p *problems) write(b *strings.Builder, one *problem) {
	text, start, before := p.head(one)
	end := len(p.data)
	if i := bytes.IndexByte(p.data[start:], '\n'); i >= 0 {
		end = start + i
	}
	row := strconv.Itoa(p.row(start))
	line := printable(bytes.TrimSuffix(p.data[start:end], []byte("\r")))
	marked := utf8.RuneCount(p.data[one.at.offset:max(one.at.offset, min(one.at.offset+one.at.length, end))])
	b.WriteString("\n" + text)
	skip := 0
	if at := len(before) + marked; at > widest {
		skip = min(len(before), at-widest)
	}
	line, marked = line[min(skip, len(line)):], min(max(marked, 1), widest)
	margin := strings.Repeat(" ", len(row))
	fmt.Fprintf(b, "\n  %s | %s", row, strings.TrimRight(string(line[:min(len(line), widest)]), " "))
	fmt.Fprintf(b, "\n  %s | %s%s", margin, strings.Repeat(" ", len(before)-skip), strings.Repeat("~", marked))
	if one.hint != "" {
		fmt.Fprintf(b, "\n  %s = %s", margin, one.hint)
	}
}

// printable is text with one printable character for each of its own.
func printable(text []byte) []rune {
	runes := []rune(string(text))
	for i, r := range runes {
		switch {
		case r == '\t':
			runes[i] = ' '
		case !strconv.IsPrint(r):
			runes[i] = utf8.RuneError
		}
	}
	return runes
}

// words is the innermost cause of err: what is wrong, without what was being done.
func words(err error) string {
	for {
		var e *fault.Error
		if !errors.As(err, &e) || e.Err == nil {
			return err.Error()
		}
		err = e.Err
	}
}
