package task

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// bridgeFunc is Bridges as a function.
type bridgeFunc func(bridge, name string, src io.Reader, size int64) (string, error)

func (f bridgeFunc) Send(_ context.Context, bridge, name string, o Outgoing) (string, error) {
	return f(bridge, name, o.Content, o.Size)
}

func (f bridgeFunc) Fetch(_ context.Context, bridge, name string, dst io.Writer) (int64, string, error) {
	if name == "/out/bad" {
		_, _ = dst.Write([]byte("half"))
		return 4, "", fault.FromPeer("read", fault.Lost, "the server is gone")
	}
	n, err := io.WriteString(dst, bridge+name)
	return int64(n), "size", err
}

// TestBridgeFrom: the file is taken from a server, whole or not at all.
func TestBridgeFrom(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, c := range []struct {
		name, want string
		kind       fault.Kind
	}{{"sub/x", "box/out/x", 0}, {"sub/x", "box/out/x", 0}, {"bad", "", fault.Lost}} {
		made, err := newBridge(&Table{From: "box:/out/{name}"})
		if err != nil {
			t.Fatal(err)
		}
		name, err := relpath.Parse(c.name)
		if err != nil {
			t.Fatal(err)
		}
		res, err := made.Run(t.Context(), &On{Root: root, File: name, Vars: Vars{"name": filepath.Base(c.name)}, Bridges: bridgeFunc(nil)})
		if c.kind == 0 && err != nil || c.kind != 0 && fault.KindOf(err) != c.kind {
			t.Errorf("%s: %v", c.name, err)
		}
		got, _ := os.ReadFile(filepath.Join(dir, c.name))
		if string(got) != c.want || c.kind == 0 && !strings.Contains(string(res.Output), "compared: size") {
			t.Errorf("%s: %q, %q", c.name, got, res.Output)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", ".*")); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	for _, bad := range []Table{{}, {From: "box:/x", To: "box:/y"}, {From: "x"}} {
		if _, err := newBridge(&bad); err == nil {
			t.Errorf("%+v is a task", bad)
		}
	}
}

// TestBridge: the file is sent under the name with its variables; what a server says
// is this end's failure, in kinds that the engine understands.
func TestBridge(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	made, err := newBridge(&Table{To: "box:/in/{name}"})
	if err != nil {
		t.Fatal(err)
	}
	name, err := relpath.Parse("x")
	if err != nil {
		t.Fatal(err)
	}
	on := &On{Root: root, File: name, Vars: Vars{"name": "{x}"}}
	if _, err := made.Run(t.Context(), on); fault.KindOf(err) != fault.NotFound {
		t.Errorf("without bridges: %v", err)
	}
	on.Bridges = bridgeFunc(func(bridge, name string, src io.Reader, size int64) (string, error) {
		got, err := io.ReadAll(src)
		if bridge != "box" || name != "/in/{x}" || string(got) != "content" || size != 7 {
			t.Errorf("%s:%s gets %q of %d bytes", bridge, name, got, size)
		}
		return "sha256", err
	})
	if res, err := made.Run(t.Context(), on); err != nil || !strings.Contains(string(res.Output), "box:/in/{x} has it; compared: sha256") {
		t.Errorf("%q, %v", res.Output, err)
	}
	for kind, want := range map[fault.Kind]fault.Kind{
		fault.Unauthenticated: fault.Refused, fault.Lost: fault.Lost, fault.NoSpace: fault.NoSpace, fault.Canceled: fault.Lost,
	} {
		on.Bridges = bridgeFunc(func(string, string, io.Reader, int64) (string, error) {
			return "", &fault.Error{Op: "ftp PASS", Kind: kind, Side: fault.Peer, Err: errors.New("530 no")}
		})
		_, err := made.Run(t.Context(), on)
		if e, ok := errors.AsType[*fault.Error](err); !ok || e.Kind != want || e.Side != fault.Here || !strings.Contains(err.Error(), "530 no") {
			t.Errorf("%v: %v", kind, err)
		}
	}
	on.Bridges = bridgeFunc(func(string, string, io.Reader, int64) (string, error) {
		return "size", os.WriteFile(path, []byte("longer content"), 0o600)
	})
	if _, err := made.Run(t.Context(), on); fault.KindOf(err) != fault.SourceChanged {
		t.Errorf("a file that changes meanwhile: %v", err)
	}
	for _, to := range []string{"", "box", "box:in", "/in", "{rule}:/in", ":/in", "box:/{nome}"} {
		if _, err := newBridge(&Table{To: to}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", to, err)
		}
	}
}
