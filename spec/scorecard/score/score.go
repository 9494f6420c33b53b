// Package score is how a test that is a check of the scorecard talks to it:
// how often to repeat, from which seed, and what was measured. Run by hand such a
// test takes its own defaults.
package score

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// The environment of a test that the scorecard runs.
const (
	EnvN    = "PANNIER_SCORE_N"
	EnvSeed = "PANNIER_SCORE_SEED"
)

// The attributes of a test that the scorecard reads.
const (
	AttrFigure = "figure"
	AttrDetail = "detail"
)

// N is how often to repeat: what the scorecard asks for, or a default.
func N(def int) int {
	if n, err := strconv.Atoi(os.Getenv(EnvN)); err == nil && n > 0 {
		return n
	}
	return def
}

// Seed is what randomness begins with; 1 unless the scorecard says otherwise.
func Seed() uint64 {
	if n, err := strconv.ParseUint(os.Getenv(EnvSeed), 10, 64); err == nil {
		return n
	}
	return 1
}

// Report tells the scorecard what was measured. Whether that is good enough the
// test says as every test does.
func Report(t testing.TB, figure float64, detail string) {
	t.Attr(AttrFigure, strconv.FormatFloat(figure, 'g', -1, 64))
	t.Attr(AttrDetail, strings.ReplaceAll(detail, "\n", "; "))
}
