package carrier

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// What of a command's stderr gets into the log.
const (
	maxLines   = 100 // of one connection
	maxLineLen = 512 // bytes; the rest of a line is left out
)

// lines puts what a command says into a log, and remembers the last line.
type lines struct {
	log *slog.Logger

	mu   sync.Mutex
	last string
}

// copy reads r to its end, or until it is closed.
func (l *lines) copy(r io.Reader) {
	in := bufio.NewReaderSize(r, maxLineLen)
	n := 0
	for {
		line, rest, err := in.ReadLine()
		text := strings.ToValidUTF8(strings.TrimSpace(string(line)), "?")
		for rest && err == nil {
			_, rest, err = in.ReadLine()
		}
		if text != "" {
			n++
			l.say(n, text)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (l *lines) say(n int, text string) {
	switch {
	case n <= maxLines:
		l.log.Info("command says", "line", text)
	case n == maxLines+1:
		l.log.Info("command says more, which is left out")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = text
}

func (l *lines) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}
