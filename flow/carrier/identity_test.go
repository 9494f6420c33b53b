package carrier

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func newIdentity(t testing.TB) *Identity {
	t.Helper()
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestIdentityIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	first, err := LoadOrCreateIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := LoadOrCreateIdentity(dir)
	if err != nil || second.Key() != first.Key() {
		t.Errorf("loaded %v, %v; want %s", second, err, first.Key())
	}
	if _, err := parsePin(first.Key()); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, identityFile): 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
}

func TestIdentityIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	keys := make([]string, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			id, err := LoadOrCreateIdentity(dir)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = id.Key()
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k != keys[0] {
			t.Fatalf("several identities: %v", keys)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left in the folder: %v, %v", files, err)
	}
}

func TestIdentityFileIsRefused(t *testing.T) {
	good, err := newIdentity(t).encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text []byte
		mode os.FileMode
		want fault.Kind
	}{
		"readable by others": {good, 0o644, fault.Permission},
		"writable by group":  {good, 0o620, fault.Permission},
		"empty":              {nil, 0o600, fault.Corrupt},
		"half":               {good[:len(good)/2], 0o600, fault.Corrupt},
		"too long":           {make([]byte, maxIdentityFile+1), 0o600, fault.TooLong},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), identityFile)
			if err := os.WriteFile(file, c.text, c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, c.mode); err != nil {
				t.Fatal(err)
			}
			id, err := LoadOrCreateIdentity(filepath.Dir(file))
			if !errors.Is(err, c.want) || id != nil {
				t.Errorf("%v, %v; want %v", id, err, c.want)
			}
		})
	}
}

func FuzzParseIdentity(f *testing.F) {
	good, err := newIdentity(f).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:100])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		id, err := parseIdentity(text)
		if (id == nil) == (err == nil) {
			t.Fatalf("%v, %v", id, err)
		}
	})
}

// TestIdentityIsNotPrinted: no verb and no log handler shows the private key.
func TestIdentityIsNotPrinted(t *testing.T) {
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, v := range []any{id, *id, struct{ ID *Identity }{id}, []*Identity{id}} {
		fmt.Fprintf(&b, "%v %+v %#v %s %d %x\n", v, v, v, v, v, v)
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "id", id, "value", *id)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "id", id, "value", *id)
	seed := id.Certificate().PrivateKey.(ed25519.PrivateKey).Seed()
	decimal := strings.Trim(fmt.Sprint(seed[:8]), "[]")
	for _, form := range []string{decimal, strings.ReplaceAll(decimal, " ", ","), hex.EncodeToString(seed[:8]), string(seed[:8]), base64.StdEncoding.EncodeToString(seed[:6])} {
		if strings.Contains(b.String(), form) {
			t.Errorf("the key is printed as %q", form)
		}
	}
	if !strings.Contains(b.String(), id.Key()) {
		t.Errorf("not even the public key: %s", &b)
	}
}
