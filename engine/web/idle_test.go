package web_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/engine/httpd/httpdtest"
	"github.com/pannier/pannier/engine/web"
	"github.com/pannier/pannier/spec/adminpb"
)

// still is a node on which nothing happens.
type still struct{ adminpb.AdminClient }

func (still) ListExpected(context.Context, *adminpb.ListExpectedRequest, ...grpc.CallOption) (*adminpb.ListExpectedReply, error) {
	return &adminpb.ListExpectedReply{}, nil
}

func (still) ListSchedules(context.Context, *adminpb.ListSchedulesRequest, ...grpc.CallOption) (*adminpb.ListSchedulesReply, error) {
	return &adminpb.ListSchedulesReply{}, nil
}

func (still) Explain(context.Context, *adminpb.Ref, ...grpc.CallOption) (*adminpb.Explanation, error) {
	return &adminpb.Explanation{Request: &adminpb.Request{Id: "1", State: adminpb.Request_DONE}}, nil
}

func (still) Events(context.Context, *adminpb.Ref, ...grpc.CallOption) (*adminpb.EventsReply, error) {
	return &adminpb.EventsReply{}, nil
}

func (still) Timeline(context.Context, *adminpb.TimelineRequest, ...grpc.CallOption) (*adminpb.TimelineReply, error) {
	return &adminpb.TimelineReply{}, nil
}

func (still) List(context.Context, *adminpb.ListRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[adminpb.Request], error) {
	return nobody{}, nil
}

func (still) ListPartners(context.Context, *adminpb.ListPartnersRequest, ...grpc.CallOption) (*adminpb.ListPartnersReply, error) {
	return &adminpb.ListPartnersReply{}, nil
}

func (still) ListFolders(context.Context, *adminpb.ListFoldersRequest, ...grpc.CallOption) (*adminpb.ListFoldersReply, error) {
	return &adminpb.ListFoldersReply{}, nil
}

func (still) ShowFolder(context.Context, *adminpb.ShowFolderRequest, ...grpc.CallOption) (*adminpb.Folder, error) {
	return &adminpb.Folder{Name: "a"}, nil
}

type nobody struct{ grpc.ClientStream }

func (nobody) Recv() (*adminpb.Request, error) { return nil, io.EOF }

// sluggish takes half a second for each list, as with very many requests.
type sluggish struct {
	still
	asked *atomic.Int64
}

func (s sluggish) List(context.Context, *adminpb.ListRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[adminpb.Request], error) {
	s.asked.Add(1)
	time.Sleep(time.Second / 2)
	return nobody{}, nil
}

// TestGraphShare: what is read for the graph while nobody looks takes a small part of the time, however
// long one reading takes.
func TestGraphShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := sluggish{asked: new(atomic.Int64)}
		page, err := web.New(web.Config{Admin: node, Caller: func(*http.Request) (web.Caller, bool) { return web.Caller{}, false }})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Minute)
		page.Close()
		if seconds := node.asked.Load() / 2; seconds < 20 || seconds > 20*60/40+1 {
			t.Errorf("of twenty minutes %d s", seconds)
		}
	})
}

// TestIdle: the stream of each page stays while nothing happens, over each protocol and for
// longer than any deadline of the server's.
func TestIdle(t *testing.T) {
	const long = 5 * time.Minute
	dir := t.TempDir()
	for name, two := range httpdtest.Protocols {
		for _, route := range web.Routes() {
			path, ok := strings.CutPrefix(route.Pattern, "GET /live")
			if !ok {
				continue
			}
			path = "/live" + strings.NewReplacer("{id}", "1", "{name}", "a").Replace(path)
			t.Run(name+path, func(t *testing.T) {
				tokens, _, err := access.OpenTokens(filepath.Join(dir, "t"), slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				text, made := access.NewToken(access.Token{Name: t.Name(), Scopes: []access.Scope{access.Read}})
				tokens.Set([]access.Token{made})
				synctest.Test(t, func(t *testing.T) {
					page, err := web.New(web.Config{Admin: still{}, Caller: func(*http.Request) (web.Caller, bool) { return web.Caller{Name: "a", Read: true}, true }})
					if err != nil {
						t.Fatal(err)
					}
					server, err := httpd.New(httpd.Config{Tokens: tokens, Local: func(int) bool { return false }})
					if err != nil {
						t.Fatal(err)
					}
					server.Mount(route.Pattern, page, access.Read)
					client := httpdtest.Serve(t, server, two)
					r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://x"+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Set("Authorization", "Bearer "+text)
					a, err := client.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					defer a.Body.Close()
					began := time.Now()
					time.AfterFunc(long, page.Close) // which ends all streams in order
					quiet := 0
					lines := bufio.NewScanner(a.Body)
					for lines.Scan() {
						if lines.Text() == ": " {
							quiet++
						}
					}
					if lasted := time.Since(began); lines.Err() != nil || a.StatusCode != http.StatusOK || lasted < long || quiet < int(long/time.Minute) {
						t.Errorf("after %v, %d comments: %s, %v", lasted, quiet, a.Status, lines.Err())
					}
				})
			})
		}
	}
}
