package host

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// TestReaderCounts: a plugin that says another number than came, or sends more than it
// may, is not believed.
func TestReaderCounts(t *testing.T) {
	for i, c := range []struct {
		said, quota int64
		call        error
		came        string
		kind        fault.Kind
	}{
		{5, -1, nil, "01234", 0}, {5, 5, nil, "01234", 0}, {6, -1, nil, "01234", fault.Corrupt}, {4, -1, nil, "01234", fault.Corrupt},
		{5, 3, nil, "012", fault.QuotaExceeded}, {5, -1, context.Canceled, "01234", fault.Protocol},
	} {
		a, b, err := pair(unix.SOCK_STREAM)
		if err != nil {
			t.Fatal(err)
		}
		mine, err := unixConn(a)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = b.WriteString("01234")
		_ = b.Close()
		r := &reader{s: &session{p: &process{}}, conn: mine, from: mine, quota: c.quota, done: make(chan struct{}), reply: &bridgepb.ReadReply{Bytes: c.said}, err: c.call}
		r.ctx, r.cancel = context.WithCancel(t.Context())
		close(r.done)
		got, err := io.ReadAll(r)
		closed := r.Close()
		if string(got) != c.came || (closed == nil) != (c.kind == 0) {
			t.Errorf("case %d: %q, closed with %v", i, got, closed)
		}
		if c.kind == 0 && err != nil || c.kind != 0 && !errors.Is(err, c.kind) {
			t.Errorf("case %d: %v, want %v", i, err, c.kind)
		}
	}
}

// listing is a plugin that lists what it is told to.
type listing struct {
	bridgepb.BridgeClient
	grpc.ServerStreamingClient[bridgepb.ListReply]
	names []string
}

func (l *listing) List(context.Context, *bridgepb.ListRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[bridgepb.ListReply], error) {
	return l, nil
}

func (l *listing) Recv() (*bridgepb.ListReply, error) {
	if len(l.names) == 0 {
		return nil, io.EOF
	}
	m := &bridgepb.ListReply{Entries: []*bridgepb.Attr{{Name: l.names[0], Size: -7}}}
	l.names = l.names[1:]
	return m, nil
}

// TestEntries: names that lead elsewhere are not handed on.
func TestEntries(t *testing.T) {
	l := &listing{names: []string{"..", "a", "../b", "/c", "", ".", "d\r\nDELE e", "f/g", "h"}}
	s := lister{&session{p: &process{bridge: l, cfg: Config{Log: slog.New(slog.DiscardHandler)}}}}
	var got []string
	for a, err := range s.List(t.Context(), "/") {
		if err != nil || a.Size != -1 {
			t.Error(a, err)
		}
		got = append(got, a.Name)
	}
	if len(got) != 2 || got[0] != "a" || got[1] != "h" {
		t.Errorf("entries are %q", got)
	}
	for _, err := range s.List(t.Context(), "/../etc") {
		if !errors.Is(err, fault.Invalid) {
			t.Error(err)
		}
	}
}
