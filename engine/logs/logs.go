// Package logs keeps the last log lines of each request in memory, for people who look at one.
//
//	New -> Handler, around the node's own -> Of
//
// A line is of the request whose id it has as the attribute "id", said with the line or
// before by slog.Logger.With. What is kept is what is written: a line that the log's level
// leaves out is not kept either. Nothing is on disk.
package logs

import (
	"log/slog"
	"sync"
	"time"
)

// Bounds of what is kept.
const (
	mostOf   = 100     // lines of one request, the last ones
	mostAll  = 10_000  // lines of all; the oldest go
	mostText = 1 << 10 // bytes of a line's text
)

// Line is one line of a log.
type Line struct {
	At    time.Time
	Level slog.Level
	Text  string // message and attributes, but for those that name the request
}

// Logs keeps lines. All methods may be called at the same time.
type Logs struct {
	mu   sync.Mutex
	of   map[string][]entry // by id, the oldest first
	ring [mostAll]string    // ids of lines, in the order in which they came
	next uint64             // number of the next line
}

// entry is a line that is kept.
type entry struct {
	Line
	partner string // of the line's attributes; empty: it has none
	number  uint64 // of all lines
}

// New keeps nothing yet.
func New() *Logs { return &Logs{of: map[string][]entry{}} }

// Of is the last lines of a request with that partner, the oldest first. An id alone is not
// enough: another partner may have chosen the same.
func (l *Logs) Of(id, partner string) (lines []Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.of[id] {
		if e.partner == "" || e.partner == partner {
			lines = append(lines, e.Line)
		}
	}
	return lines
}

// add keeps a line.
func (l *Logs) add(id string, e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.number = l.next; e.number >= mostAll { // the oldest goes, if it is not gone already
		old := l.ring[e.number%mostAll]
		if all := l.of[old]; len(all) > 0 && all[0].number == e.number-mostAll {
			if l.of[old] = all[1:]; len(all) == 1 {
				delete(l.of, old)
			}
		}
	}
	l.ring[e.number%mostAll] = id
	l.next++
	all := append(l.of[id], e)
	l.of[id] = all[max(len(all)-mostOf, 0):]
}
