package crypt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// What a receipt says, and how it is signed and checked. A receipt is one JSON object on
// one line, in exactly one form: whatever else means the same is refused, so that no byte
// of it can be changed.

// Statement is what a receiver says of a file that it has received.
type Statement struct {
	ID         string `json:"id"`
	Requester  string `json:"requester"`
	Rule       string `json:"rule"`
	Info       string `json:"info"`
	Sender     Party  `json:"sender"`
	Receiver   Party  `json:"receiver"`
	Source     string `json:"source"`   // below the sender's root
	Target     string `json:"target"`   // below the receiver's root, as it was asked for
	Size       int64  `json:"size"`     // that was transferred
	Verified   string `json:"verified"` // what was compared between both ends and equal
	File       File   `json:"file"`     // as it was when this was signed, after earlier tasks
	Registered string `json:"registered"`
	Signed     string `json:"signed"`
}

// Party is one end.
type Party struct {
	Name string   `json:"name"`
	Keys []string `json:"keys"` // "sha256:..."; none: it is known by another proof, as a user of the host
}

// File is a file at the receiver.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"` // "sha256:..."
}

// Compare reads a copy of the file, and returns Corrupt if it is another one.
func (f File) Compare(with io.Reader) error {
	const op = "compare file"
	hex, ok := strings.CutPrefix(f.Digest, "sha256:")
	if !ok {
		return fault.New(op, fault.Unsupported, "the receipt has the digest %q; this version compares sha256 only", f.Digest)
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(with, f.Size+1))
	switch got := fmt.Sprintf("%x", h.Sum(nil)); {
	case err != nil:
		return fault.Wrap(op, "", err)
	case n > f.Size:
		return fault.New(op, fault.Corrupt, "it has more than the %d bytes of the receipt: it is another file, or was changed since", f.Size)
	case n < f.Size:
		return fault.New(op, fault.Corrupt, "it has %d bytes, the receipt says %d: it is another file, or was changed since", n, f.Size)
	case got != hex:
		return fault.New(op, fault.Corrupt, "its digest is sha256:%s, the receipt says %s: it is another file, or was changed since", got, f.Digest)
	}
	return nil
}

// receipt is a file's content.
type receipt struct {
	Receipt   Statement `json:"pannier_receipt_v1"`
	Public    []byte    `json:"public_key"` // SubjectPublicKeyInfo
	Signature []byte    `json:"signature"`
}

// domain is before what is signed: a node's key signs handshakes too.
const domain = "pannier receipt v1\n"

// Sign makes a receipt.
func Sign(s Statement, with task.Signer) ([]byte, error) {
	text, err := canonical(s)
	if err != nil {
		return nil, err
	}
	public, signature, err := with.Sign(append([]byte(domain), text...))
	if err != nil {
		return nil, fault.Wrap("sign receipt", "", err)
	}
	return canonical(receipt{s, public, signature})
}

// canonical is the one form of a value: keys in the order of the type, no space, one LF
// at its end.
func canonical(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// Verify checks a receipt and returns what it says and the key that has signed it. With
// trusted keys, it has to be one of these. Errors: Invalid for what is no receipt, Corrupt
// for one that was changed, Unauthenticated for one that another has signed.
func Verify(text []byte, trusted ...string) (Statement, string, error) {
	const op = "verify receipt"
	var r receipt
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || r.Public == nil {
		return Statement{}, "", fault.New(op, fault.Invalid, "it is no receipt of pannier")
	}
	if again, err := canonical(r); err != nil || !bytes.Equal(again, text) {
		return Statement{}, "", fault.New(op, fault.Corrupt, "it is not as it was written: it was changed, or formatted")
	}
	key, ok := signedBy(r)
	switch {
	case !ok:
		return Statement{}, "", fault.New(op, fault.Corrupt, "the signature is not of this statement: it was changed, or made by nobody")
	case !slices.Contains(r.Receipt.Receiver.Keys, key):
		return Statement{}, "", fault.New(op, fault.Unauthenticated, "it is signed by %s, which is not the key of the receiver that it names", key)
	case len(trusted) > 0 && !slices.Contains(trusted, key):
		return Statement{}, "", fault.New(op, fault.Unauthenticated, "it is signed by %s, which is none of the keys that were given", key)
	}
	return r.Receipt, key, nil
}

// signedBy is the key that has signed, if the signature is good.
func signedBy(r receipt) (string, bool) {
	statement, err := canonical(r.Receipt)
	if err != nil {
		return "", false
	}
	public, err := x509.ParsePKIXPublicKey(r.Public)
	if err != nil {
		return "", false
	}
	text := append([]byte(domain), statement...)
	sum := sha256.Sum256(text)
	good := false
	switch k := public.(type) {
	case ed25519.PublicKey:
		good = ed25519.Verify(k, text, r.Signature)
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(k, sum[:], r.Signature)
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], r.Signature) == nil
	}
	id := sha256.Sum256(r.Public)
	return "sha256:" + hex.EncodeToString(id[:]), good
}
