package carrier

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

const (
	identityFile    = "identity.pem" // key and certificate in one file, so that they are created as one
	maxIdentityFile = 64 << 10       // bytes
)

// Identity is a node's certificate with its private key. It is immutable and
// may be shared.
type Identity struct {
	cert tls.Certificate
	key  string
}

// NewIdentity makes a new key and a self-signed certificate for it. It does
// not expire: what counts is the key, and a key is retired by removing its pin.
//
// The key is Ed25519: a handshake with certificates on both sides costs 0.97 ms of
// CPU, both ends together, and 1.12 ms with ECDSA on P-256 (go test -bench Handshake,
// medians of 7 in turn). Not every TLS library takes Ed25519 by default: ordinary gRPC
// clients that do not are shown Options.GRPCCertificates.
func NewIdentity() (*Identity, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fault.Wrap("new identity", "", err)
	}
	return selfSigned(private)
}

func selfSigned(private crypto.Signer) (*Identity, error) {
	der, err := x509.CreateCertificate(rand.Reader, template(), template(), private.Public(), private)
	if err != nil {
		return nil, fault.Wrap("new identity", "", err)
	}
	return IdentityOf(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private})
}

// template is a certificate whose validity no wrong clock falls out of; the
// end is the "no expiration" of RFC 5280, 4.1.2.5.
func template() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "pannier"},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// IdentityOf is the identity that a certificate with its private key gives,
// for nodes whose certificate comes from an authority.
func IdentityOf(cert tls.Certificate) (*Identity, error) {
	if len(cert.Certificate) == 0 || cert.PrivateKey == nil {
		return nil, fault.New("identity of certificate", fault.Invalid, "the certificate or its private key is missing")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, fault.New("identity of certificate", fault.Invalid, "%w", err)
	}
	cert.Leaf = leaf
	return &Identity{cert: cert, key: KeyOf(leaf)}, nil
}

// Key is the key as KeyOf gives it: what peers pin.
func (i *Identity) Key() string { return i.key }

// Format implements fmt.Formatter: whatever the verb, only the public key is printed.
// So a log has no private key, even by mistake.
func (i Identity) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "identity "+i.key) }

// Certificate is the certificate with its private key.
func (i *Identity) Certificate() tls.Certificate { return i.cert }

// LoadOrCreateIdentity reads the file identity.pem in the folder dir, or makes
// the folder (mode 0700) and the file (mode 0600). Of several processes that
// create at the same time one wins and all return its identity. A file that
// others may read or write is refused with fault.Permission, one that is not
// an identity with fault.Corrupt.
func LoadOrCreateIdentity(dir string) (*Identity, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Wrap("load identity", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.Wrap("load identity", dir, err)
	}
	defer root.Close()
	id, err := loadIdentity(root)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, fault.Wrap("load identity", dir, err)
	}
	if err := createIdentity(root); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fault.Wrap("create identity", dir, err)
	}
	id, err = loadIdentity(root)
	return id, fault.Wrap("load identity", dir, err)
}

// LoadIdentity reads the identity that LoadOrCreateIdentity has made. NotFound:
// there is none.
func LoadIdentity(dir string) (*Identity, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.Wrap("load identity", dir, err)
	}
	defer root.Close()
	id, err := loadIdentity(root)
	return id, fault.Wrap("load identity", dir, err)
}

func loadIdentity(root *os.Root) (*Identity, error) {
	f, err := root.Open(identityFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fault.New("load identity", fault.Permission, "%s has mode %04o; only its owner may read it (chmod 0600)", identityFile, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxIdentityFile+1))
	if err != nil {
		return nil, err
	}
	return parseIdentity(text)
}

// parseIdentity reads PEM blocks: one private key (PKCS #8) and the certificate
// with its chain, in any order.
func parseIdentity(text []byte) (*Identity, error) {
	if len(text) > maxIdentityFile {
		return nil, fault.New("parse identity", fault.TooLong, "%s has more than %d bytes", identityFile, maxIdentityFile)
	}
	cert, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fault.New("parse identity", fault.Corrupt, "%s: %w", identityFile, err).Advise("restore it from a backup, or move it away: then a new key is made, which the partners have to be told")
	}
	return IdentityOf(cert)
}

// createIdentity writes a new identity under a name of its own and gives it the
// final name with link(2), which fails if that exists: never half a file,
// never one that replaces another.
func createIdentity(root *os.Root) error {
	id, err := NewIdentity()
	if err != nil {
		return err
	}
	text, err := id.encode()
	if err != nil {
		return err
	}
	temp := identityFile + "." + rand.Text()
	defer func() { _ = root.Remove(temp) }() // the second name of the same file
	if err := writeSynced(root, temp, text); err != nil {
		return err
	}
	if err := root.Link(temp, identityFile); err != nil {
		return err
	}
	return syncDir(root)
}

func (i *Identity) encode() ([]byte, error) {
	private, err := x509.MarshalPKCS8PrivateKey(i.cert.PrivateKey)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for _, der := range i.cert.Certificate {
		err = errors.Join(err, pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return b.Bytes(), err
}

func writeSynced(root *os.Root, name string, text []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
