package bridge

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pannier/pannier/plugins"
)

// TestReadThatIsNotWhole: a reading that breaks off is no end, however the reader says so, and whatever size the server
// has announced; one that ends is.
func TestReadThatIsNotWhole(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  error
		size int64
		want error
	}{
		{"whole", io.EOF, 5, io.EOF},
		{"whole, size unknown", io.EOF, -1, io.EOF},
		{"broken off, size unknown", io.ErrUnexpectedEOF, -1, io.ErrUnexpectedEOF},
		{"broken off", io.ErrUnexpectedEOF, 10, io.ErrUnexpectedEOF},
		{"broken off behind the last byte", io.ErrUnexpectedEOF, 5, io.ErrUnexpectedEOF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &remoteSource{file: &file{server: "one", name: "/x"}, is: plugins.Attr{Size: tc.size},
				from: io.NopCloser(io.MultiReader(strings.NewReader("12345"), iotest.ErrReader(tc.end)))}
			p := make([]byte, 10)
			if n, err := r.ReadBlock(p, 0); n != 5 || !errors.Is(err, tc.want) || errors.Is(err, io.EOF) != (tc.want == io.EOF) {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
}

// TestReadInVain: a reader that brings nothing and says nothing is given up.
func TestReadInVain(t *testing.T) {
	some := io.MultiReader(strings.NewReader("12"), idle{})
	if n, err := fill(some, make([]byte, 5)); n != 2 || err != io.ErrNoProgress {
		t.Errorf("%d, %v", n, err)
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }
