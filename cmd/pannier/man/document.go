package man

import (
	"regexp"
	"strings"
	"time"
)

// Document is the page of a document in as much of Markdown as spec/ has: headings, paragraphs,
// tables, lists, blocks of code; and in a line code, bold and links. A table of keys becomes a list
// of them with their shapes and defaults.
func Document(name, about, text string, see []string, date time.Time) []byte {
	p := newPage(name, 5, date, about)
	p.section("description")
	for _, part := range parts(text) {
		p.part(part)
	}
	p.section("see also")
	p.line(escape(strings.Join(see, ", ")))
	return []byte(p.b.String())
}

// parts are the headings, paragraphs, tables and blocks of a document.
func parts(text string) (all []string) {
	for text = strings.Trim(text, "\n"); text != ""; text = strings.Trim(text, "\n") {
		end := "\n\n"
		switch {
		case strings.HasPrefix(text, "```"):
			end = "\n```"
		case strings.HasPrefix(text, "#"):
			end = "\n"
		}
		part, rest, _ := strings.Cut(text, end)
		all, text = append(all, part), rest
	}
	return all
}

func (p *page) part(part string) {
	switch {
	case strings.HasPrefix(part, "# "):
	case strings.HasPrefix(part, "## "):
		if title := strings.ReplaceAll(part[3:], "`", ""); strings.HasPrefix(title, "[") {
			p.heading(".SH ", title) // a table of the file, which has no capitals
		} else {
			p.section(title)
		}
	case strings.HasPrefix(part, "### "):
		p.heading(".SS ", strings.ReplaceAll(part[4:], "`", ""))
	case strings.HasPrefix(part, "```"):
		_, code, _ := strings.Cut(part, "\n")
		p.literal(code)
	case strings.HasPrefix(part, "|"):
		p.table(strings.Split(part, "\n"))
	case strings.HasPrefix(part, "- "):
		for _, item := range strings.Split("\n"+part, "\n- ")[1:] {
			p.tagged(`\(bu`, inline(item))
		}
	default:
		p.paragraph(inline(part))
	}
}

// table is a list: the first cell, and the others below it.
func (p *page) table(lines []string) {
	head := cells(lines[0])
	for _, line := range lines[2:] {
		c := cells(line)
		switch {
		case head[0] == "key" && len(c) == 4 && c[2] == "required":
			p.tagged(inline(c[0])+" ("+inline(c[1])+", required)", inline(c[3]))
		case head[0] == "key" && len(c) == 4:
			p.tagged(inline(c[0])+" ("+inline(c[1])+"; default: "+inline(c[2])+")", inline(c[3]))
		case c[0] == "":
			p.b.WriteString(".IP\n")
			p.line(inline(strings.Join(c[1:], ": ")))
		default:
			p.tagged(inline(c[0]), inline(strings.TrimSuffix(strings.Join(c[1:], ": "), ": ")))
		}
	}
}

// cells are those of a line of a table; \| is no border.
func cells(line string) []string {
	const bar = "\x00"
	line = strings.ReplaceAll(strings.Trim(strings.TrimSpace(line), "|"), `\|`, bar)
	all := strings.Split(line, "|")
	for i, c := range all {
		all[i] = strings.ReplaceAll(strings.TrimSpace(c), bar, "|")
	}
	return all
}

var spans = regexp.MustCompile("`([^`]+)`|\\*\\*([^*]+)\\*\\*|\\[([^\\]]+)\\]\\([^)]+\\)")

// inline is a line of Markdown in roff.
func inline(text string) string {
	var b strings.Builder
	at := 0
	for _, m := range spans.FindAllStringSubmatchIndex(text, -1) {
		b.WriteString(escape(text[at:m[0]]))
		switch {
		case m[2] >= 0:
			b.WriteString(bold(text[m[2]:m[3]]))
		case m[4] >= 0:
			b.WriteString(bold(text[m[4]:m[5]]))
		default:
			b.WriteString(inline(text[m[6]:m[7]]))
		}
		at = m[1]
	}
	b.WriteString(escape(text[at:]))
	return b.String()
}
