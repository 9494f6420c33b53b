package rest

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/engine/httpd/httpdtest"
	"github.com/pannier/pannier/spec/adminpb"
)

// long is longer than each deadline of the server, which is two minutes.
const long = 5 * time.Minute

// late is a service on which nothing happens for that long.
type late struct{ adminpb.AdminClient }

func (late) Watch(ctx context.Context, _ *adminpb.WatchRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[adminpb.Change], error) {
	return &pieces[adminpb.Change]{ctx: ctx}, nil
}

func (late) List(ctx context.Context, _ *adminpb.ListRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[adminpb.Request], error) {
	return &pieces[adminpb.Request]{ctx: ctx}, nil
}

func (late) Browse(ctx context.Context, _ *adminpb.BrowseRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[adminpb.BrowseEntry], error) {
	return &pieces[adminpb.BrowseEntry]{ctx: ctx}, nil
}

func (late) Check(ctx context.Context, _ *adminpb.CheckRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[adminpb.CheckReply], error) {
	return &pieces[adminpb.CheckReply]{ctx: ctx}, nil
}

func (late) Backup(ctx context.Context, _ *adminpb.BackupRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[adminpb.BackupChunk], error) {
	return &pieces[adminpb.BackupChunk]{ctx: ctx}, nil
}

func (late) Wait(ctx context.Context, _ *adminpb.WaitRequest, _ ...grpc.CallOption) (*adminpb.Request, error) {
	select {
	case <-time.After(2 * long):
		return &adminpb.Request{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pieces are two, each after a long time.
type pieces[M any] struct {
	grpc.ClientStream
	ctx  context.Context
	sent int
}

func (p *pieces[M]) Recv() (*M, error) {
	if p.sent == 2 {
		return nil, io.EOF
	}
	p.sent++
	select {
	case <-time.After(long):
		return new(M), nil
	case <-p.ctx.Done():
		return nil, p.ctx.Err()
	}
}

// TestIdle: a stream on which nothing happens stays, over each protocol and for longer than any
// deadline of the server's, and is whole.
func TestIdle(t *testing.T) {
	dir := t.TempDir()
	for name, two := range httpdtest.Protocols {
		for _, c := range []struct{ method, path, body, end string }{
			{"GET", "/v1/watch", "", "event: end\ndata: {}\n\n"},
			{"GET", "/v1/requests", "", "]}\n"},
			{"GET", "/v1/browse", "", "]}\n"},
			{"POST", "/v1/check", "{}", "]}\n"},
			{"GET", "/v1/backup", "", ""},
			{"GET", "/v1/requests/0000/wait", "", "}"},
		} {
			t.Run(name+c.path, func(t *testing.T) {
				tokens, _, err := access.OpenTokens(filepath.Join(dir, "t"), slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				text, made := access.NewToken(access.Token{Name: t.Name(), Scopes: []access.Scope{access.Administer}})
				tokens.Set([]access.Token{made})
				synctest.Test(t, func(t *testing.T) {
					server, err := httpd.New(httpd.Config{Tokens: tokens, Local: func(int) bool { return false }})
					if err != nil {
						t.Fatal(err)
					}
					if err := Mount(server, late{}, Options{}); err != nil {
						t.Fatal(err)
					}
					client := httpdtest.Serve(t, server, two)
					r, err := http.NewRequestWithContext(t.Context(), c.method, "https://x"+c.path, strings.NewReader(c.body))
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Set("Authorization", "Bearer "+text)
					began := time.Now()
					a, err := client.Do(r)
					if err != nil {
						t.Fatalf("after %v: %v", time.Since(began), err)
					}
					defer a.Body.Close()
					if a.Proto != name+map[bool]string{true: ".0"}[two] {
						t.Fatalf("it speaks %s", a.Proto)
					}
					body, err := io.ReadAll(bufio.NewReader(a.Body))
					if err != nil || a.StatusCode != http.StatusOK || !strings.HasSuffix(string(body), c.end) || time.Since(began) < 2*long {
						t.Errorf("after %v: %s, %v\n%s", time.Since(began), a.Status, err, body)
					}
				})
			})
		}
	}
}
