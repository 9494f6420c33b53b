package carrier

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"testing"
)

// TestSign: each kind of key signs so that what the standard library has checks it, and
// public is what Key digests.
func TestSign(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, key := range map[x509.SignatureAlgorithm]crypto.Signer{x509.PureEd25519: ed, x509.ECDSAWithSHA256: ec, x509.SHA256WithRSA: rs} {
		id, err := selfSigned(key)
		if err != nil {
			t.Fatal(err)
		}
		public, signature, err := id.Sign([]byte("text"))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(public)
		if "sha256:"+hex.EncodeToString(sum[:]) != id.Key() {
			t.Errorf("%v: another key", algorithm)
		}
		if err := id.cert.Leaf.CheckSignature(algorithm, []byte("text"), signature); err != nil {
			t.Errorf("%v: %v", algorithm, err)
		}
		if id.cert.Leaf.CheckSignature(algorithm, []byte("Text"), signature) == nil {
			t.Errorf("%v: whatever the text", algorithm)
		}
	}
}
