package host

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/channel"
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
		r := &reader{s: &session{p: &process{}}, conn: mine, from: mine, free: func() {}, quota: c.quota, done: make(chan struct{}), reply: &bridgepb.ReadReply{Bytes: c.said}, err: c.call}
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

// TestChannelLies: a plugin that says of a channel's memory what cannot be is found out: that it
// gives more than there is room for, or takes back more than it has.
func TestChannelLies(t *testing.T) {
	a, b, err := pair(unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := unixConn(a)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_ = mine.SetDeadline(time.Now().Add(10 * time.Second))
	lie := func() { _, _ = b.Write([]byte{0xff, 0xff, 0xff, 0xff}) }
	go func() { _, _ = b.Write(make([]byte, channel.Plain)); lie() }()
	s := &session{p: &process{}}
	from := channel.NewReceiver(mine, channel.Offer, nil)
	r := &reader{s: s, conn: mine, from: from, free: from.Release, quota: -1, done: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(t.Context())
	context.AfterFunc(r.ctx, func() { r.err = context.Canceled; close(r.done) })
	if n, err := io.Copy(io.Discard, r); n != channel.Plain || !errors.Is(err, fault.Protocol) {
		t.Errorf("%d bytes came, then %v", n, err)
	}
	_ = r.Close()

	a, b2, err := pair(unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer b2.Close()
	if mine, err = unixConn(a); err != nil {
		t.Fatal(err)
	}
	_ = mine.SetDeadline(time.Now().Add(10 * time.Second))
	b = b2
	st := &staged{s: s, ctx: t.Context(), conn: mine, to: channel.NewSender(mine, channel.Offer, nil), stop: func() bool { return true }}
	defer st.closeChannel()
	go func() { _, _ = io.CopyN(io.Discard, b2, channel.Plain); lie() }()
	if _, err := io.CopyN(st, zeros{}, 8<<20); !errors.Is(err, fault.Protocol) {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

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

// TestBounds: what a plugin says is of a length that the node has room for.
func TestBounds(t *testing.T) {
	long := strings.Repeat("\u00e4", 1<<20)
	err := (&process{}).failure(&bridgepb.Failure{Kind: uint32(fault.IO), Op: long, Subject: long, Text: long, Advice: long, Code: long})
	if n := len(err.Error()); n > 50<<10 {
		t.Errorf("an error has %d bytes", n)
	}
	for by, want := range map[string]string{"size": "size", "sha256": "sha256", strings.Repeat("x", mostVerified): strings.Repeat("x", mostVerified), strings.Repeat("x", mostVerified+1): "", "a b": "", "a\n": ""} {
		if got := attr(&bridgepb.Attr{Verified: by}).Verified; got != want {
			t.Errorf("%.20q is %.20q", by, got)
		}
	}
	if b, err := resume(make([]byte, plugins.MaxResume)); err != nil || len(b) != plugins.MaxResume {
		t.Error(err)
	}
	if _, err := resume(make([]byte, plugins.MaxResume+1)); !errors.Is(err, fault.Protocol) {
		t.Error(err)
	}
}

// deaf is a stream whose other end never answers.
type deaf struct {
	grpc.ClientStreamingClient[bridgepb.Chunk, bridgepb.WriteStreamReply]
	ctx context.Context
}

func (d deaf) CloseAndRecv() (*bridgepb.WriteStreamReply, error) {
	<-d.ctx.Done()
	return nil, d.ctx.Err()
}

// TestEndOfStream: a Commit waits for the end of the messages no longer than its context lets it.
func TestEndOfStream(t *testing.T) {
	streamed, cancel := context.WithCancel(t.Context())
	st := &staged{stream: deaf{ctx: streamed}, stop: func() bool { cancel(); return true }}
	ctx, give := context.WithCancel(t.Context())
	give()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		st.end(ctx)
	}()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		cancel()
		t.Error("it waits")
	}
}

// TestEntries: names that lead elsewhere are not handed on.
func TestEntries(t *testing.T) {
	l := &listing{names: []string{"..", "a", "../b", "/c", "", ".", "d\r\nDELE e", "f/g", "h"}}
	var log strings.Builder
	s := lister{&session{p: &process{bridge: l, cfg: Config{Log: slog.New(slog.NewTextHandler(&log, nil))}}}}
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
	if said := log.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "entries=7") {
		t.Errorf("the log has %q", said)
	}
	for _, err := range s.List(t.Context(), "/../etc") {
		if !errors.Is(err, fault.Invalid) {
			t.Error(err)
		}
	}
}

// copying is a plugin whose copy is cut off by its context, after what it has said.
type copying struct {
	bridgepb.BridgeClient
	grpc.ServerStreamingClient[bridgepb.CopyReply]
	said []*bridgepb.CopyReply
}

func (c *copying) Copy(context.Context, *bridgepb.CopyRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[bridgepb.CopyReply], error) {
	return c, nil
}

func (c *copying) Recv() (*bridgepb.CopyReply, error) {
	if len(c.said) == 0 {
		return nil, context.Canceled
	}
	m := c.said[0]
	c.said = c.said[1:]
	return m, nil
}

// TestCopyCut: a copy that is cut off says from where it can go on, as the plugin last said.
func TestCopyCut(t *testing.T) {
	for _, c := range []struct {
		said  []*bridgepb.CopyReply
		bytes int64
		want  string
	}{
		{nil, 0, ""},
		{[]*bridgepb.CopyReply{{Bytes: 1, Resume: []byte("a")}, {Bytes: 2, Resume: []byte("b")}}, 2, "b"},
		{[]*bridgepb.CopyReply{{Bytes: 1, Resume: []byte("a")}, {Bytes: 2}}, 2, "a"},
		{[]*bridgepb.CopyReply{{Bytes: 1, Resume: []byte("a")}, {Bytes: 2, Done: true}}, 2, ""},
	} {
		p := &process{bridge: &copying{said: c.said}, gone: make(chan struct{})}
		r, _ := copier{&session{p: p}}.Copy(t.Context(), "/x", &session{p: p}, "/y", plugins.CopyRequest{})
		if string(r.Resume) != c.want || r.Bytes != c.bytes {
			t.Errorf("%v: %d bytes, it goes on from %q", c.said, r.Bytes, r.Resume)
		}
	}
}
