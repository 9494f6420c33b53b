package host

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
)

// What a plugin says on its descriptors 1 and 2, as records of the host. Nothing it
// says is believed to be well formed.

// maxLine is the most bytes of a line; the rest of it is dropped.
const maxLine = 64 << 10

// lines calls f with each line of r, until r ends. Nothing that comes is kept beyond
// maxLine.
func lines(r io.Reader, f func(line []byte)) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			f(line)
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

// said makes records of lines.
type said struct {
	log *slog.Logger

	mu       sync.Mutex
	panicked bool     // what follows is a stack
	last     []string // lines, for who wants to know why it did not start
}

const lastLines = 6

func (s *said) line(line []byte) {
	level, text, attrs := parse(line)
	s.mu.Lock()
	if strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ") {
		s.panicked = true
	}
	if s.panicked && attrs == nil {
		level = slog.LevelError
	}
	if s.last = append(s.last, text[:min(len(text), 200)]); len(s.last) > lastLines {
		s.last = s.last[1:]
	}
	s.mu.Unlock()
	s.log.LogAttrs(context.Background(), level, text, attrs...)
}

// tail is what was said last.
func (s *said) tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ToValidUTF8(strings.Join(s.last, " / "), "?")
}

// prefixes of lines of text, as package log's users write them.
var prefixes = []struct {
	text  string
	level slog.Level
}{{"[TRACE]", slog.LevelDebug - 4}, {"[DEBUG]", slog.LevelDebug}, {"[INFO]", slog.LevelInfo}, {"[WARN]", slog.LevelWarn}, {"[ERROR]", slog.LevelError}}

// parse takes a line for a record of slog or hclog if it is one, and for text if not.
func parse(line []byte) (level slog.Level, text string, attrs []slog.Attr) {
	text = strings.ToValidUTF8(string(line), "?")
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(text, p.text); ok {
			return p.level, strings.TrimSpace(rest), nil
		}
	}
	if line[0] != '{' {
		return slog.LevelInfo, text, nil
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var fields map[string]any
	if err := d.Decode(&fields); err != nil {
		return slog.LevelInfo, text, nil
	}
	for _, keys := range [][3]string{{"msg", "level", "time"}, {"@message", "@level", "@timestamp"}} {
		message, ok := fields[keys[0]].(string)
		word, isWord := fields[keys[1]].(string)
		if !ok || !isWord {
			continue
		}
		for _, k := range keys {
			delete(fields, k)
		}
		attrs = []slog.Attr{}
		for _, k := range slices.Sorted(maps.Keys(fields)) {
			attrs = append(attrs, slog.Any(strings.TrimPrefix(k, "@"), fields[k]))
		}
		return levelOf(word), message, attrs
	}
	return slog.LevelInfo, text, nil
}

func levelOf(word string) slog.Level {
	if strings.EqualFold(word, "trace") {
		return slog.LevelDebug - 4
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(word)); err != nil {
		return slog.LevelInfo
	}
	return l
}

// synced is what a plugin prints with its own standard output and error, which go-plugin
// sends in pieces.
func synced(s *said) *io.PipeWriter {
	r, w := io.Pipe()
	go lines(r, s.line)
	return w
}
