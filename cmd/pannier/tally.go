package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pannier/pannier/cmd/internal/command"
)

// tally shows on a terminal, and only there, how many of the lines of a batch are dealt with. Its
// methods may be called at the same time.
type tally struct {
	w    io.Writer // nil: no terminal
	what string
	of   int

	mu    sync.Mutex
	n     int
	drawn time.Time
}

func newTally(w io.Writer, what string, of int) *tally {
	t := &tally{what: what, of: of, drawn: time.Now()} // what is over at once is not shown
	if command.Terminal(w) {
		t.w = w
	}
	return t
}

// add counts one.
func (t *tally) add() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	if now := time.Now(); t.w != nil && now.Sub(t.drawn) >= drawEvery {
		t.drawn = now
		fmt.Fprintf(t.w, "\r\x1b[K%s of %s %s", humanize.Comma(int64(t.n)), humanize.Comma(int64(t.of)), t.what)
	}
}

// clear removes the line.
func (t *tally) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.w != nil {
		fmt.Fprint(t.w, "\r\x1b[K")
	}
}
