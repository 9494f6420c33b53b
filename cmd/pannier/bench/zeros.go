package bench

import (
	"context"
	"io"
	"path"
	"strconv"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// Zeros is a driver without a server, that costs nothing itself: a file has as many zeros
// as its name says, "/1048576", and what is written is thrown away.
type Zeros struct{}

// Describe implements plugins.Driver.
func (Zeros) Describe() plugins.Description {
	return plugins.Description{Name: "zeros", Version: "1", Schemes: []string{"zeros"}}
}

// Open implements plugins.Driver.
func (Zeros) Open(context.Context, plugins.Endpoint) (plugins.Session, error) {
	return zeroSession{}, nil
}

type zeroSession struct{}

func (zeroSession) Capabilities() plugins.Capabilities { return plugins.Capabilities{Write: true} }
func (zeroSession) Close() error                       { return nil }

// Stat implements plugins.Session.
func (zeroSession) Stat(_ context.Context, name string) (plugins.Attr, error) {
	n, err := strconv.ParseUint(path.Base(name), 10, 62)
	if err != nil {
		return plugins.Attr{}, fault.New("stat", fault.NotFound, "a file of zeros is called /SIZE, as /1024")
	}
	return plugins.Attr{Name: name, Size: int64(n)}, nil
}

// Read implements plugins.Session.
func (s zeroSession) Read(ctx context.Context, name string, _ int64) (io.ReadCloser, error) {
	a, err := s.Stat(ctx, name)
	return io.NopCloser(io.LimitReader(untouched{}, a.Size)), err
}

// Write implements plugins.Writer.
func (zeroSession) Write(_ context.Context, name string, r plugins.WriteRequest) (plugins.Staged, error) {
	return &untouchedSink{attr: plugins.Attr{Name: name, Size: r.Size}}, nil
}

// untouched reads and writes what is in the buffer: neither costs anything.
type untouched struct{}

func (untouched) Read(p []byte) (int, error)  { return len(p), nil }
func (untouched) Write(p []byte) (int, error) { return len(p), nil }

// untouchedSink is a file that is thrown away.
type untouchedSink struct {
	untouched
	attr plugins.Attr
}

// Offset implements plugins.Staged.
func (*untouchedSink) Offset() int64 { return 0 }

// Commit implements plugins.Staged.
func (s *untouchedSink) Commit(context.Context) (plugins.Attr, error) { return s.attr, nil }

// Abort implements plugins.Staged.
func (*untouchedSink) Abort(context.Context, bool) ([]byte, error) { return nil, nil }
