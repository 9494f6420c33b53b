package command

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// A Table is rows of text, each as long as the header.
type Table struct {
	Header []string
	Rows   [][]string

	// Align has a letter for each column: "l" to the left, "r" to the right, "c"
	// to the left and cut where lines would be wider than the terminal, the widest
	// such column first. Empty: the first to the left, the others to the right.
	Align string
}

// Write prints the table: aligned on a terminal; elsewhere as lines of whole
// cells with tabs in between, the header first, because later versions add columns.
func (t Table) Write(w io.Writer) error {
	if Terminal(w) {
		return t.WriteTerminal(w, Width(w))
	}
	for _, row := range t.lines() {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return nil
}

// WriteCSV prints the table for spreadsheets (RFC 4180), the header first.
func (t Table) WriteCSV(w io.Writer) error {
	return csv.NewWriter(w).WriteAll(t.lines())
}

// lines are header and rows, every cell on one line of its own.
func (t Table) lines() [][]string {
	all := append([][]string{t.Header}, t.Rows...)
	for i, row := range all {
		clean := make([]string, len(row))
		for j, cell := range row {
			clean[j] = strings.ReplaceAll(Printable(cell), "\n", `\n`)
		}
		all[i] = clean
	}
	return all
}

// gap is between two columns.
const gap = "  "

// WriteTerminal prints the table as a terminal gets it, in lines of at most width
// characters if what may be cut allows it; 0: no limit.
func (t Table) WriteTerminal(w io.Writer, width int) error {
	lines := t.lines()
	align := t.Align
	if align == "" {
		align = "l" + strings.Repeat("r", len(t.Header)-1)
	}
	widths := fit(lines, align, width)
	for _, line := range lines {
		var b strings.Builder
		for i, cell := range line {
			cell = cut(cell, widths[i])
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if align[i] == 'r' {
				cell, pad = pad+cell, ""
			}
			if i > 0 {
				b.WriteString(gap)
			}
			b.WriteString(cell + pad)
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// leastCut is how narrow a column is made at most.
const leastCut = 8

// fit is the width of each column.
func fit(lines [][]string, align string, most int) []int {
	widths := make([]int, len(align))
	sum := len(gap) * (len(align) - 1)
	for i := range widths {
		for _, line := range lines {
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
		}
		sum += widths[i]
	}
	for ; most > 0 && sum > most; sum-- {
		widest := -1
		for i, n := range widths {
			if align[i] == 'c' && n > leastCut && (widest < 0 || n > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return widths
}

// cut is text of at most n characters.
func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:max(n-1, 0)]) + "…"
}

// WriteJSON prints values as JSON, one on a line. Fields are only ever added to
// what a command prints so.
func WriteJSON[T any](w io.Writer, values ...T) error {
	e := json.NewEncoder(w)
	for _, v := range values {
		if err := e.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

// Terminal reports whether people read what is written to w.
func Terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Width is how many characters a line of the terminal w has; 0: unknown.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	n, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return n
}
