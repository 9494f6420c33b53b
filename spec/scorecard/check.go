package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// A check is one row of the scorecard.
type check struct {
	id     int
	title  string // fault or hostile input: required outcome
	unit   string // of result.figure
	n      counts
	mutant string // what must make it fail
	edits  []edit // the mutant; none: run knows job.broken
	// several says which mutants the edits make, when they make more than one: each
	// of them has to be found. Its edits ask mutant("13 early ack").
	several []string
	run     func(ctx context.Context, j *job) (result, error)
}

// counts is how often a check repeats, or for how many seconds it goes on.
type counts struct {
	reduced, full int
	control       int // 0 = reduced
}

func (c counts) forControl() int {
	if c.control > 0 {
		return c.control
	}
	return c.reduced
}

// A job is one run of a check.
type job struct {
	n       int
	seed    uint64
	full    bool
	rnd     *rand.Rand // from seed
	broken  bool       // the negative control
	overlay string     // of the mutated source, for goTest; "" = none
	dir     string     // a folder of its own
}

// A result is what one run of a check has measured.
type result struct {
	figure float64
	pass   bool
	detail string
}

// A row is what is printed.
type row struct {
	ID      int     `json:"id"`
	Title   string  `json:"title"`
	Pass    bool    `json:"pass"`
	Figure  float64 `json:"figure"`
	Unit    string  `json:"unit"`
	Detail  string  `json:"detail,omitempty"`
	N       int     `json:"n"`
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"`
	Mutant  string  `json:"mutant"`
	Skipped string  `json:"skipped,omitempty"` // why it could not be tried here: it has neither passed nor failed
	Control string  `json:"control,omitempty"` // what came of the mutant
}

// cannot is the error of a check that this host has not what it needs for.
type cannot struct{ error }

// maxCheck and maxFull bound one run of a check, so that what hangs is a failure.
const (
	maxCheck = 20 * time.Minute
	maxFull  = time.Hour
)

// perform runs a check once. A check that could not run has failed.
func perform(ctx context.Context, c check, j job) (row, error) {
	r := row{ID: c.id, Title: c.title, Unit: c.unit, N: j.n, Seed: j.seed, Mutant: c.mutant}
	j.rnd = rand.New(rand.NewPCG(j.seed, uint64(c.id)))
	dir, err := os.MkdirTemp("", "scorecard")
	if err != nil {
		return r, fault.Wrap("make scratch folder", "", err)
	}
	j.dir = dir
	limit := maxCheck
	if j.full {
		limit = maxFull
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	res, err := c.run(ctx, &j)
	if needs := (cannot{}); errors.As(err, &needs) {
		r.Skipped, err = needs.Error(), nil
	}
	r.Seconds = time.Since(began).Round(10 * time.Millisecond).Seconds()
	r.Pass, r.Figure, r.Detail = res.pass && err == nil, res.figure, res.detail
	if err != nil {
		r.Detail = couldNotRun + err.Error()
	}
	return r, errors.Join(err, os.RemoveAll(dir))
}

// note collects what is wrong, the first few in words.
type note struct {
	n     int
	texts string
}

func (w *note) add(format string, args ...any) {
	if w.n++; w.n <= 5 {
		w.texts += "; " + fmt.Sprintf(format, args...)
	}
}

// result passes when nothing is wrong.
func (w *note) result(figure float64, format string, args ...any) result {
	return result{figure: figure, pass: w.n == 0, detail: fmt.Sprintf(format, args...) + w.texts}
}
