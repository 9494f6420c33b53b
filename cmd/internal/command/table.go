package command

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"
)

// A Table is rows of text, each as long as the header.
type Table struct {
	Header []string
	Rows   [][]string
}

// Write prints the table: aligned on a terminal, the first column to the left and
// the others to the right; elsewhere as lines of cells with tabs in between, the
// header first, because later versions add columns.
func (t Table) Write(w io.Writer) error {
	if Terminal(w) {
		return t.align(w)
	}
	for _, row := range t.lines() {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return nil
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

func (t Table) align(w io.Writer) error {
	lines := t.lines()
	width := 0
	for _, line := range lines {
		width = max(width, len([]rune(line[0])))
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, line := range lines {
		fmt.Fprintf(tw, "%-*s\t%s\t\n", width, line[0], strings.Join(line[1:], "\t"))
	}
	return tw.Flush()
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
