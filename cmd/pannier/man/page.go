// Package man makes man pages: of commands, section 1, and of a document of spec/, section 5.
package man

import (
	"fmt"
	"strings"
	"time"
)

// widest is how long a line of a page's source is at most, in bytes; readers fill lines anew.
const widest = 78

// page is a page that is written, in the macros of man(7).
type page struct {
	b     strings.Builder
	fresh bool // a section has begun, and nothing is in it
}

func newPage(name string, section int, date time.Time, about string) *page {
	p := new(page)
	fmt.Fprintf(&p.b, ".TH %s %d %s Pannier\n.nh\n.ad l\n", strings.ToUpper(escape(name)), section, date.UTC().Format(time.DateOnly))
	p.section("name")
	p.line(escape(name) + ` \- ` + escape(about))
	return p
}

func (p *page) section(title string) { p.heading(".SH ", strings.ToUpper(title)) }

func (p *page) heading(request, title string) {
	p.b.WriteString(request + quote(title) + "\n")
	p.fresh = true
}

// apart begins a paragraph.
func (p *page) apart() {
	if !p.fresh {
		p.b.WriteString(".PP\n")
	}
	p.fresh = false
}

// tagged is a term, in roff, and what it means below it.
func (p *page) tagged(term, text string) {
	p.b.WriteString(".TP\n")
	p.fresh = false
	p.line(term)
	p.line(text)
}

// paragraph is filled text, in roff.
func (p *page) paragraph(text string) {
	p.apart()
	p.line(text)
}

// literal is text whose lines stay as they are.
func (p *page) literal(text string) {
	p.apart()
	p.b.WriteString(".EX\n")
	for _, line := range strings.Split(strings.Trim(text, "\n"), "\n") {
		p.b.WriteString(opening(escape(strings.TrimRight(strings.ReplaceAll(line, "\t", "    "), " "))) + "\n")
	}
	p.b.WriteString(".EE\n")
}

// line is text in roff on as many lines as it takes.
func (p *page) line(text string) {
	var line string
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > widest {
			p.b.WriteString(opening(line) + "\n")
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		p.b.WriteString(opening(line) + "\n")
	}
}

// opening keeps a line of text from being a request.
func opening(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}

// escaped is what a terminal or a printer would show otherwise, or the reader obey.
var escaped = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

func escape(text string) string { return escaped.Replace(text) }

func bold(text string) string   { return `\fB` + escape(text) + `\fR` }
func italic(text string) string { return `\fI` + escape(text) + `\fR` }

// quote is text as one argument of a request.
func quote(text string) string { return `"` + strings.ReplaceAll(escape(text), `"`, `\(dq`) + `"` }
