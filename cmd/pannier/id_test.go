package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow/carrier"
)

// TestIDOfCertificate: --http prints what --server-key takes, the key of http.certificate.
func TestIDOfCertificate(t *testing.T) {
	dir := t.TempDir()
	other, err := carrier.LoadOrCreateIdentity(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "p.toml")
	text := fmt.Sprintf("[node]\nname = \"n\"\nstate = \"%[1]s/state\"\n[http]\nlisten = [\"tls://127.0.0.1:1\"]\ncertificate = \"%[1]s/other/identity.pem\"\nkey = \"%[1]s/other/identity.pem\"\n", dir)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	printed := func(http bool) string {
		var out bytes.Buffer
		if err := id(path, http, &out); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out.String())
	}
	if of := printed(true); of != other.Key() || printed(false) == of {
		t.Errorf("of the certificate: %s, of the node: %s; the certificate's is %s", of, printed(false), other.Key())
	}
}
