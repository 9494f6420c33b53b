package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/cmd/rcat/rcatpb"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// start serves dir/root to a client in this process.
func start(t *testing.T, writable bool) (c *client, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "root"), 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(filepath.Join(dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	pipe := carrier.NewPipe()
	server, err := newServer(&service{root: root, writable: writable, quota: sideeffect.NoQuota}, rpc.ServerConfig{Pipe: pipe})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Listen("pipe:"); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	if c, err = dial("pipe:", rpc.ClientConfig{Pipe: pipe}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		root.Close()
	})
	return c, dir
}

// TestNamesStayBelowRoot: the server refuses by itself what rcat's own client
// never sends.
func TestNamesStayBelowRoot(t *testing.T) {
	c, dir := start(t, true)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "root", "up")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../secret", "a/../../secret", "/etc/passwd", filepath.Join(dir, "secret"), "up/secret", "..\\secret", "x\x00"} {
		for _, resume := range []bool{false, true} {
			var b bytes.Buffer
			got := &sideeffect.Descriptor{Local: sideeffect.Buffer(&b), Quota: sideeffect.NoQuota}
			if err := c.get(t.Context(), name, 0, got); err == nil || b.Len() > 0 {
				t.Errorf("get %q: %v, %q", name, err, b.String())
			}
			put := &sideeffect.Descriptor{Local: sideeffect.Memory([]byte("x")), Quota: sideeffect.NoQuota, Resume: resume}
			if err := c.put(t.Context(), name, nil, put); err == nil {
				t.Errorf("put %q went through", name)
			}
		}
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 2 {
		t.Error(all, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "secret")); err != nil || string(b) != "secret" {
		t.Error(string(b), err)
	}
}

// TestUnfinishedFiles: what has not arrived yet is neither given nor overwritten, and
// nothing is said of it.
func TestUnfinishedFiles(t *testing.T) {
	c, dir := start(t, true)
	for _, name := range []string{".x.pannier-r0123456789abcdef", ".x.pannier-r0123456789abcdef.state"} {
		if err := os.WriteFile(filepath.Join(dir, "root", name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		offset := int64(1)
		var b bytes.Buffer
		for what, err := range map[string]error{
			"get":           c.get(t.Context(), name, 0, &sideeffect.Descriptor{Local: sideeffect.Buffer(&b), Quota: sideeffect.NoQuota}),
			"get behind it": c.get(t.Context(), name, 100, &sideeffect.Descriptor{Local: sideeffect.Buffer(&b), Quota: sideeffect.NoQuota}),
			"put":           c.put(t.Context(), name, nil, &sideeffect.Descriptor{Local: sideeffect.Memory([]byte("x")), Quota: sideeffect.NoQuota}),
			"put into it":   c.put(t.Context(), name, &offset, &sideeffect.Descriptor{Local: sideeffect.Memory([]byte("x")), Quota: sideeffect.NoQuota}),
		} {
			if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "use another name") || b.Len() > 0 {
				t.Errorf("%s %s: %v, %q", what, name, err, b.String())
			}
		}
		if got, err := os.ReadFile(filepath.Join(dir, "root", name)); string(got) != "half" {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
}

// TestCallWithoutSideEffect: a client that forgets rpc.With is told so.
func TestCallWithoutSideEffect(t *testing.T) {
	c, dir := start(t, true)
	if _, err := c.stub.Put(t.Context(), &rcatpb.PutRequest{Path: "x"}); fault.KindOf(err) != fault.NotFound {
		t.Error(err)
	}
	if _, err := c.stub.Get(t.Context(), &rcatpb.GetRequest{Path: "x"}); fault.KindOf(err) != fault.NotFound {
		t.Error(err)
	}
	if all, err := os.ReadDir(filepath.Join(dir, "root")); err != nil || len(all) != 0 {
		t.Error(all, err)
	}
}

// TestCutOffPutLeavesOldFile: without resume nothing of a half upload stays,
// and the old file does.
func TestCutOffPutLeavesOldFile(t *testing.T) {
	c, dir := start(t, true)
	root := filepath.Join(dir, "root")
	if err := os.WriteFile(filepath.Join(root, "x"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	here := &sideeffect.Descriptor{Quota: sideeffect.NoQuota, Local: halting{sideeffect.Memory(content(4 << 20)), func() error {
		defer cancel()
		return awaitBytes(filepath.Join(root, ".x.pannier-t*"), 1)
	}}}
	if err := c.put(ctx, "x", nil, here); command.Code(ctx, err) != command.Interrupted {
		t.Fatal(err)
	}
	if err := awaitGone(filepath.Join(root, ".x.pannier-*")); err != nil { // the server's half ends on its own
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(root, "x")); string(b) != "old" {
		t.Error(string(b), err)
	}
}
