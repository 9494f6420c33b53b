package logs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

const one, two = "00112233445566778899aabbccddeeff", "ff112233445566778899aabbccddeeff"

func texts(lines []Line) (all []string) {
	for _, l := range lines {
		all = append(all, l.Level.String()+" "+l.Text)
	}
	return all
}

// TestKept: lines of a request are found by its id, as they were written, and those of others are not.
func TestKept(t *testing.T) {
	var b bytes.Buffer
	l := New()
	log := slog.New(l.Handler(slog.NewTextHandler(&b, nil))).With("node", "here")
	run := log.With("id", one, "partner", "there", "rule", "out", "phase", "PRE")
	run.Info("claimed", "attempt", 1)
	run.Debug("not written")
	run.With("phase", "POST").Error("failed", "error", errors.New("disk \"full\"\nand more"))
	log.Warn("nobody's", "partner", "there")
	log.Info("submitted", "id", one, "partner", "there", "made", true)
	log.Info("of another partner's", "id", one, "partner", "far")
	log.Info("of no partner", "id", one)
	log.Info("of another", "id", two)
	log.Info("no id", "id", "42")
	run.WithGroup("g").Info("in a group", "id", "inner", "k", "v", slog.Group("h", "i", 1))
	want := []string{
		"INFO claimed phase=PRE attempt=1", `ERROR failed phase=PRE phase=POST error="disk \"full\"\nand more"`, "INFO submitted made=true", "INFO of no partner",
		"INFO in a group phase=PRE g.id=inner g.k=v g.h.i=1",
	}
	got := texts(l.Of(one, "there"))
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("kept are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := texts(l.Of(one, "far")); len(got) != 2 || got[0] != "INFO of another partner's" {
		t.Error(got)
	}
	if len(l.Of("42", "")) != 0 || len(l.Of("", "")) != 0 {
		t.Error("what is no id keeps lines")
	}
	written := b.String()
	if n := strings.Count(written, "\n"); n != 9 || !strings.Contains(written, "id="+one+" partner=there rule=out phase=PRE attempt=1") || !strings.Contains(written, "g.k=v") {
		t.Errorf("%d lines written:\n%s", n, written)
	}
	if l.Of(one, "there")[0].At.IsZero() {
		t.Error("without a time")
	}
}

// TestBounds: a request that says much keeps its last lines, all together the last of all, each as long as it may be.
func TestBounds(t *testing.T) {
	l := New()
	for i := range 3 * mostOf {
		l.add(one, entry{Line: Line{Text: fmt.Sprint(i)}})
	}
	lines := l.Of(one, "")
	if len(lines) != mostOf || lines[0].Text != fmt.Sprint(2*mostOf) || lines[mostOf-1].Text != fmt.Sprint(3*mostOf-1) {
		t.Errorf("%d lines, from %q", len(lines), lines[0].Text)
	}
	for i := range mostAll - 10 {
		l.add(fmt.Sprintf("%032x", i), entry{})
	}
	if n := len(l.Of(one, "")); n != 10 {
		t.Errorf("%d lines of the oldest are kept, want 10", n)
	}
	for i := range 2 * mostAll {
		l.add(fmt.Sprintf("%032x", i), entry{})
	}
	total := 0
	for _, all := range l.of {
		total += len(all)
	}
	if total != mostAll || len(l.of) != mostAll || len(l.Of(one, "")) != 0 {
		t.Errorf("%d lines of %d requests", total, len(l.of))
	}
	slog.New(l.Handler(slog.NewTextHandler(discard{}, nil))).Info("long", "id", two, "k", strings.Repeat("é", mostText), "l", strings.Repeat("x", mostText))
	if text := l.Of(two, "")[0].Text; len(text) > mostText+4 || !strings.HasPrefix(text, "long k=éé") || !strings.HasSuffix(text, "é ...") {
		t.Errorf("%d bytes: %.20q...", len(text), text)
	}
}

// TestTogether: lines come and are looked at by many at a time.
func TestTogether(t *testing.T) {
	l := New()
	log := slog.New(l.Handler(slog.DiscardHandler))
	h := log.With("id", one).Handler()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 200 {
				_ = h.Handle(t.Context(), slog.Record{Message: fmt.Sprint(i)})
				l.Of(one, "")
			}
		})
	}
	all.Wait()
	if n := len(l.Of(one, "")); n != mostOf {
		t.Errorf("%d lines", n)
	}
}

// BenchmarkLine is what it costs to keep one.
func BenchmarkLine(b *testing.B) {
	log := slog.New(New().Handler(slog.NewTextHandler(discard{}, nil)))
	run := log.With("id", one, "partner", "there", "rule", "out", "state", "RUNNING", "phase", "PRE", "attempt", 1)
	plain := slog.New(slog.NewTextHandler(discard{}, nil)).With("id", one, "partner", "there", "rule", "out", "state", "RUNNING", "phase", "PRE", "attempt", 1)
	for name, log := range map[string]*slog.Logger{"kept": run, "written": plain} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				log.Info("a step is done", "rank", 12345, "of", 67890)
			}
		})
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
