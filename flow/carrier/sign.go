package carrier

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"

	"github.com/pannier/pannier/spec/fault"
)

// Sign signs a text with the identity's key: Ed25519 the text itself, ECDSA (ASN.1) and
// RSA (PKCS #1 v1.5) its SHA-256. public is the key as KeyOf digests it. What is signed
// begins with words that no handshake and no other text has.
func (i *Identity) Sign(text []byte) (public, signature []byte, err error) {
	signer, ok := i.cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, fault.New("sign", fault.Unsupported, "the node's key cannot sign")
	}
	if _, ok := signer.Public().(ed25519.PublicKey); ok {
		signature, err = signer.Sign(rand.Reader, text, crypto.Hash(0))
	} else {
		sum := sha256.Sum256(text)
		signature, err = signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	}
	return i.cert.Leaf.RawSubjectPublicKeyInfo, signature, fault.Wrap("sign", "", err)
}
