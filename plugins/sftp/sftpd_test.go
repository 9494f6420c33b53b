package sftp

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/plugintest"
	"github.com/pannier/pannier/plugins/sftp/sftpd"
	"github.com/pannier/pannier/spec/fault"
)

// directory is a node of one user, whose files are in a directory, and which keeps what breaks
// off.
type directory struct {
	dir.Driver
	at   string
	kept *sync.Map // by name and mark: what Abort has returned
}

func (d directory) Open(ctx context.Context, e plugins.Endpoint) (plugins.Session, error) {
	if e.User != "me" || e.Password != "secret" {
		return nil, fault.New("log in", fault.Unauthenticated, "it is not me")
	}
	s, err := d.Driver.Open(ctx, plugins.Endpoint{URL: (&url.URL{Scheme: "dir", Path: d.at}).String()})
	if err != nil {
		return nil, err
	}
	return keeping{s.(everything), d.kept}, nil
}

type everything interface {
	plugins.Session
	plugins.Writer
	plugins.Lister
	plugins.Renamer
	plugins.Remover
	plugins.Maker
}

type keeping struct {
	everything
	kept *sync.Map
}

func (k keeping) Capabilities() plugins.Capabilities {
	c := k.everything.Capabilities()
	c.Kept = true
	return c
}

func (k keeping) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	whose := name
	if mark, err := plugins.Marked(w.Resume); err == nil {
		whose, w.Resume = name+" "+mark, nil
		if old, ok := k.kept.Load(whose); ok {
			w.Resume = old.([]byte)
		}
	}
	st, err := k.everything.Write(ctx, name, w)
	return remembered{st, whose, k.kept}, err
}

type remembered struct {
	plugins.Staged
	whose string
	kept  *sync.Map
}

func (r remembered) Abort(ctx context.Context, keep bool) ([]byte, error) {
	resume, err := r.Staged.Abort(ctx, keep)
	r.kept.Delete(r.whose)
	if resume != nil {
		r.kept.Store(r.whose, resume)
	}
	return resume, err
}

// ownServer starts one of package sftpd, with a directory that remembers what was begun; in is where its files are.
func ownServer(t *testing.T) (in string, e plugins.Endpoint) {
	t.Helper()
	at, key := t.TempDir(), filepath.Join(t.TempDir(), "hostkey")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	ctx, end := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- sftpd.Serve(ctx, l, map[string]string{"hostkey": key, "drain": "0s", "connections-per-address": "200"}, directory{at: at, kept: new(sync.Map)})
	}()
	t.Cleanup(func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var text []byte
	for range 1000 {
		if text, _ = os.ReadFile(key); bytes.HasSuffix(text, []byte("-----\n")) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return at, plugins.Endpoint{URL: "sftp://" + l.Addr().String(), User: "me", Password: "secret",
		Options: map[string]string{"hostkey": ssh.FingerprintSHA256(signer.PublicKey()), "timeout": "5s"}}
}

// TestOwnBegins: what such a server has kept of a file is gone on with by its resume point alone, and not
// by another Write of the same ID.
func TestOwnBegins(t *testing.T) {
	at, e := ownServer(t)
	s, b := opens(t, e), randomBytes(1<<20)
	w := plugins.WriteRequest{Size: int64(len(b)), ID: "one"}
	half := func(w plugins.WriteRequest) (resume []byte) {
		st, err := s.Write(t.Context(), "/x", w)
		if err == nil {
			_, err = st.Write(b[:len(b)/2])
		}
		if err == nil {
			resume, err = st.Abort(t.Context(), true)
		}
		if err != nil {
			t.Fatal(err)
		}
		return resume
	}
	for _, again := range []bool{false, true} {
		resume := half(w)
		st, err := s.Write(t.Context(), "/x", plugins.WriteRequest{Size: w.Size, ID: "one", Resume: resume})
		if err != nil || st.Offset() != int64(len(b)/2) {
			t.Fatalf("it goes on at %d, %v", st.Offset(), err)
		}
		if _, err := st.Abort(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if st, err = s.Write(t.Context(), "/x", plugins.WriteRequest{Size: w.Size, ID: "one", Again: again}); err != nil || st.Offset() != 0 {
			t.Fatalf("it begins at %d, %v", st.Offset(), err)
		}
		if _, err := st.Abort(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		holds(t, at)
	}
}

// TestOwnServer holds the driver against the contract of bridges, with the server of
// package sftpd, which names files when they are whole.
func TestOwnServer(t *testing.T) {
	at, e := ownServer(t)
	start := func() *host.Plugin { return host.InProcess(host.Config{Name: "sftp", Drain: time.Second}, Driver{}) }
	p := start()
	defer func() { _ = p.Close(context.Background()) }()
	plugintest.Run(t, plugintest.Harness{
		Levels: []string{plugintest.Core, plugintest.Write, plugintest.Resume},
		Restart: func(ctx context.Context) error {
			old := p
			p = start()
			return old.Close(ctx)
		},
		Open: func(ctx context.Context) (plugins.Session, error) {
			return p.Open(ctx, e)
		},
		Sparse: func(name string, size int64) error {
			f, err := os.Create(filepath.Join(at, name))
			if err != nil {
				return err
			}
			defer f.Close()
			return f.Truncate(size)
		},
	})
}
