package config

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/objects"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestExample(t *testing.T) {
	cfg, err := Parse("example.toml", Example)
	if err != nil {
		t.Fatal(err)
	}
	want := Node{
		Name: "hosta", State: "/var/lib/pannier", Listen: []string{"tls://0.0.0.0:6610"}, Admin: "unix:///var/lib/pannier/admin.sock",
		Concurrent: 256, Serving: 1024, Bandwidth: quantity.Always(1e9), Patience: 7 * 24 * time.Hour, Retention: 30 * 24 * time.Hour, Failed: engine.DefaultFailed, Hops: engine.DefaultHops, Drain: 30 * time.Second,
		Log: slog.LevelInfo, LogFormat: "text",
	}
	if !reflect.DeepEqual(cfg.Node, want) {
		t.Errorf("node is\n%+v, want\n%+v", cfg.Node, want)
	}
	if p := cfg.Book.Partners["branch"]; len(p.Keys) != 2 || p.Address != "" || p.Concurrent != engine.DefaultConcurrent || p.Open != engine.DefaultOpen || p.Bandwidth != nil {
		t.Errorf("%+v", p)
	}
	if p := cfg.Book.Partners["hostb"]; len(p.Keys) != 1 || p.Address != "tls://hostb.example:6610" || p.Concurrent != 32 || p.Bandwidth.At(time.Now()) != 200e6 {
		t.Errorf("%+v", p)
	}
	r := cfg.Book.Rules["invoices"]
	if r.Direction != engine.Send || !r.Allows("hostb") || r.Allows("branch") || r.Root != "/srv/invoices" || r.Exists != engine.Refuse || r.Quota != 10e9 ||
		r.Digest != sideeffect.SHA256 || r.Compress != sideeffect.CompressAuto || len(r.Retry.Windows) != 2 || r.Retry.Most != time.Hour {
		t.Errorf("%+v", r)
	}
	if len(r.Sender.Pre) != 1 || r.Sender.Pre[0].Timeout != 30*time.Second || r.Sender.Post[0].Name != "move" || len(r.Sender.Error) != 1 {
		t.Errorf("sender: %+v", r.Sender)
	}
	if len(r.Receiver.Pre) != 1 || r.Receiver.Post[0].Name != "check" || len(r.Receiver.Error) != 1 {
		t.Errorf("receiver: %+v", r.Receiver)
	}
}

// TestDefaults: what is not written is what the engine would take itself.
func TestDefaults(t *testing.T) {
	cfg, err := Parse("x", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	r := cfg.Book.Rules["r"]
	want := engine.Retry{Attempts: engine.DefaultAttempts, Delay: engine.DefaultDelay, Factor: engine.DefaultFactor, Most: engine.DefaultMost}
	if !reflect.DeepEqual(r.Retry, want) || r.Quota != sideeffect.NoQuota || r.Digest != sideeffect.None || r.Compress != sideeffect.CompressOff || r.Exists != engine.Overwrite {
		t.Errorf("%+v", r)
	}
	if n := cfg.Node; n.Bandwidth != nil || n.Concurrent != 256 || n.Listen != nil || n.State != "/var/lib/pannier" {
		t.Errorf("%+v", n)
	}
}

const minimal = `
node.name = "a"
[[rule]]
name = "r"
direction = "receive"
partners = ["a"]
root = "/srv/r"
`

// TestSide: an empty list takes the place of the common one, too; tasks in
// tables of their own are the same as inline ones, and belong to the last rule.
func TestSide(t *testing.T) {
	cfg, err := Parse("x", []byte(minimal+`
pre = [{ task = "log" }]
sender.pre = []
[[rule.receiver.post]]
task = "delete"
[[rule.receiver.post]]
task = "log"
[[rule]]
name = "r2"
direction = "send"
partners = ["a"]
root = "/srv/r2"
[rule.retry]
attempts = 9
`))
	if err != nil {
		t.Fatal(err)
	}
	if second := cfg.Book.Rules["r2"]; second.Retry.Attempts != 9 || len(second.Receiver.Post) != 0 {
		t.Errorf("%+v", second)
	}
	r := cfg.Book.Rules["r"]
	if len(r.Sender.Pre) != 0 || len(r.Receiver.Pre) != 1 || len(r.Receiver.Post) != 2 || len(r.Sender.Post) != 0 {
		t.Errorf("%+v, %+v", r.Sender, r.Receiver)
	}
}

// TestProblems: each file of testdata has problems, and the golden one beside
// it says which.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(filepath.Base(file), data)
			if !errors.Is(err, fault.Invalid) {
				t.Fatalf("%v", err)
			}
			golden := strings.TrimSuffix(file, ".toml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, readErr := os.ReadFile(golden)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if err.Error()+"\n" != string(want) {
				t.Errorf("it says\n%s\nwant\n%s", err, want)
			}
		})
	}
}

// TestEncodings: what editors put in front of UTF-8 is passed over, and places are right; UTF-16 is called that.
func TestEncodings(t *testing.T) {
	const text = "[node]\nname = \"n\"\nstate = \"/s\"\n"
	cfg, err := Parse("x", []byte("\ufeff"+text))
	if err != nil || cfg.Node.Name != "n" {
		t.Fatal(err)
	}
	const pool = "\ufeff[[pool]]\nname = \"p\"\nbandwidth = \"1MB/s\"\n"
	if all, _, err := cfg.Apply(objects.Set{}, Source{Name: "o", Text: []byte(pool)}); err != nil || len(all) != 1 || all[0].Name != "p" {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := Parse("x", []byte("\ufeffnode = 1\n"+text)); err == nil || !strings.Contains(err.Error(), "x:2:") {
		t.Error(err)
	}
	for name, order := range map[string]binary.AppendByteOrder{"little": binary.LittleEndian, "big": binary.BigEndian} {
		for _, mark := range []string{"\ufeff", ""} {
			var wide []byte
			for _, c := range utf16.Encode([]rune(mark + text)) {
				wide = order.AppendUint16(wide, c)
			}
			if _, err := Parse("x", wide); err == nil || !strings.Contains(err.Error(), NotUTF16) {
				t.Errorf("%s endian, mark %q: %v", name, mark, err)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "p.toml")
	for _, tc := range []struct {
		path string
		make func() error
		kind fault.Kind
		says string
	}{
		{path, func() error { return nil }, fault.NotFound, "no such file"},
		{dir, func() error { return nil }, fault.Internal, "is a directory"},
		{path, func() error { return os.WriteFile(path, make([]byte, most+1), 0o600) }, fault.TooLong, "more than"},
		{path, func() error { return os.WriteFile(path, Example, 0o600) }, 0, ""},
	} {
		if err := tc.make(); err != nil {
			t.Fatal(err)
		}
		cfg, err := Load(tc.path)
		if tc.kind == 0 {
			if err != nil || cfg.Node.Name != "hosta" {
				t.Errorf("%v", err)
			}
			continue
		}
		if tc.kind != fault.Internal && !errors.Is(err, tc.kind) || err == nil || !strings.Contains(err.Error(), tc.says) || strings.Count(err.Error(), tc.path) != 1 {
			t.Errorf("%s: %v", tc.path, err)
		}
	}
}

// TestPermission: it is said once, with the path, who may not read it and what helps.
func TestPermission(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "p.toml")
	if err := os.WriteFile(path, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	err := once("read configuration", path, &fs.PathError{Op: "open", Path: path, Err: syscall.EACCES})
	if want := fmt.Sprintf("read configuration %q: permission denied: user ", path); !errors.Is(err, fault.Permission) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v", err)
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	group, mine := groupName(nobody.Gid), owners(uint32(os.Getuid()), uint32(os.Getgid()))
	for _, c := range []struct {
		path string
		uid  int
		want string
	}{
		{path, uid, "user nobody may not read it; it has mode 0640, and is of " + mine + ". If that is the node's user, as root: chgrp " + group + " " + path + " && chmod 0640 " + path},
		{path, 1 << 30, "user 1073741824 may not read it; it has mode 0640, and is of " + mine},
		{filepath.Join(path, "x"), uid, "user nobody may not enter a directory on the way to it"},
	} {
		if got := unreadable(c.path, c.uid); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// FuzzParse: no text makes it panic, and each problem is in the text.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.toml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(Example)
	f.Add([]byte(minimal))
	f.Add([]byte("node.name.x = 1\n[node.name]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse("x", data)
		if err == nil {
			if n := cfg.Node; n.Name == "" || n.Concurrent < 1 || n.Retention < lifecycle.MinRetention || !filepath.IsAbs(n.State) {
				t.Fatalf("%+v", n)
			}
			return
		}
		var p *problems
		if !errors.As(err, &p) || len(p.list) == 0 {
			t.Fatal(err)
		}
		for _, one := range p.list {
			if one.at.offset < 0 || one.at.offset > len(data) || one.text == "" {
				t.Fatalf("%+v", one)
			}
		}
	})
}
