package pack

import (
	"io"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// Defaults of what may come of a file.
const (
	DefaultMaxSize  = 64 << 30 // bytes
	DefaultMaxFiles = 10_000   // entries, directories too
	DefaultMaxRatio = 200      // times the file's own size
	free            = 1 << 20  // bytes that are no bomb, whatever they are made of
)

// bounds are how much may come of a file.
type bounds struct {
	size, ratio int64
	files       int
}

func newBounds(t *task.Table) (bounds, error) {
	b := bounds{DefaultMaxSize, DefaultMaxRatio, DefaultMaxFiles}
	if t.MaxSize != nil {
		b.size = int64(*t.MaxSize)
	}
	if t.MaxRatio != 0 {
		b.ratio = int64(t.MaxRatio)
	}
	if t.MaxFiles != 0 {
		b.files = t.MaxFiles
	}
	if b.size < 0 || b.ratio < 1 || b.ratio > 1<<20 || b.files < 1 {
		return b, invalid("max_size is at least 0, max_files at least 1, max_ratio 1 to 1048576")
	}
	return b, nil
}

// budget counts down what may still be written.
type budget struct {
	left  int64
	ratio bool // it is the ratio that bounds
	b     bounds
}

// of is the budget of a file of that size.
func (b bounds) of(packed int64) *budget {
	if packed < b.size/b.ratio+1 { // else the product is more than size, and may not be a number
		if most := max(free, packed*b.ratio); most < b.size {
			return &budget{most, true, b}
		}
	}
	return &budget{b.size, false, b}
}

// spend takes n bytes, or refuses.
func (l *budget) spend(n int) error {
	if l.left -= int64(n); l.left >= 0 {
		return nil
	}
	if l.ratio {
		return fault.New("unpack", fault.QuotaExceeded, "more than %d times its own size comes of it: if that is no attack, raise max_ratio", l.b.ratio)
	}
	return fault.New("unpack", fault.QuotaExceeded, "more than %d bytes come of it: if that is no attack, raise max_size", l.b.size)
}

// writer spends what is written to w, and writes nothing beyond.
func (l *budget) writer(w io.Writer) io.Writer { return &spender{w, l} }

type spender struct {
	w io.Writer
	l *budget
}

func (s *spender) Write(p []byte) (int, error) {
	if err := s.l.spend(len(p)); err != nil {
		return 0, err
	}
	return s.w.Write(p)
}

func invalid(format string, args ...any) error {
	return fault.New("check table", fault.Invalid, format, args...)
}
