package sftp

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/pannier/pannier/spec/fault"
)

// trust is which keys a server may have: pins, or a file of them. Without either it is
// nobody's.
type trust struct {
	pins  []string            // "SHA256:..."
	file  string              // "": none
	known ssh.HostKeyCallback // of file
	types []string            // of the keys that the file has for this server
}

// pinned reads the option hostkey.
func pinned(list string) (pins []string, err error) {
	for _, p := range strings.Split(list, ",") {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		digits, ok := strings.CutPrefix(p, "SHA256:")
		sum, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(digits, "="))
		if !ok || err != nil || len(sum) != 32 {
			return nil, fault.New("sftp option hostkey", fault.Invalid, "%s is not SHA256: and 43 letters and digits", fault.Shown(p)).Advise("say ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub at the server, which prints it")
		}
		pins = append(pins, "SHA256:"+base64.RawStdEncoding.EncodeToString(sum))
	}
	return pins, nil
}

// read reads the file of the option known-hosts.
func (t *trust) read(file, address string) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err == nil {
		t.known, err = knownhosts.New(file)
	}
	if err != nil {
		return fault.Wrap("sftp option known-hosts", file, err)
	}
	t.file, t.types = file, known(t.known, address)
	if strings.Contains(string(text), "@cert-authority") {
		t.types = nil // any: the server may have a certificate
	}
	return nil
}

// known are the types of the keys that a file has for a server. Without them a server with
// keys of several types might show one that is not in the file, and look like another.
func known(callback ssh.HostKeyCallback, address string) (types []string) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil
	}
	nobody, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil
	}
	if e, ok := errors.AsType[*knownhosts.KeyError](callback(address, &net.TCPAddr{IP: net.IPv4zero}, nobody)); ok {
		for _, k := range e.Want {
			types = append(types, k.Key.Type())
		}
	}
	return types
}

// algorithms are those by which a server may prove its key, the best first, without those
// of types that have been tried.
func (t trust) algorithms(old bool, tried []string) []string {
	first := []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	if old {
		first = append(first, ssh.KeyAlgoRSA)
	}
	if t.file != "" && t.types == nil {
		first = append([]string{ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01}, first...)
	}
	return slices.DeleteFunc(first, func(a string) bool {
		return slices.Contains(tried, keyType(a)) || len(t.pins) == 0 && t.types != nil && !slices.Contains(t.types, keyType(a))
	})
}

// keyType is the type of the keys of an algorithm.
func keyType(algorithm string) string {
	if algorithm == ssh.KeyAlgoRSASHA256 || algorithm == ssh.KeyAlgoRSASHA512 {
		return ssh.KeyAlgoRSA
	}
	return algorithm
}

// otherKey is the error of a key that is none of the pins: the server may have one of
// another type.
type otherKey struct {
	error
	typ string
}

func (o otherKey) Unwrap() error { return o.error }

// check says what is wrong with a server's key.
func (t trust) check(where, host string, remote net.Addr, key ssh.PublicKey) error {
	print := ssh.FingerprintSHA256(key)
	no := func(format string, args ...any) *fault.Error {
		return &fault.Error{Op: "sftp host key", Kind: fault.Unauthenticated, Side: fault.Inferred, Subject: where, Err: fault.New("check", fault.Unauthenticated, format, args...)}
	}
	compare := "compare with what ssh-keygen -l prints at the server"
	if len(t.pins) > 0 {
		if slices.Contains(t.pins, print) {
			return nil
		}
		return otherKey{no("the server's key is %s %s, and not one of hostkey: %s", key.Type(), print, strings.Join(t.pins, ", ")).
			Advise("somebody may have taken the server's place: %s; only if it has a new key, set hostkey=%s", compare, print), key.Type()}
	}
	if t.known == nil {
		return no("nothing says whose key the server has to show; it shows %s %s", key.Type(), print).
			Advise("%s, and if it is the same, set hostkey=%s; or set known-hosts to a file with the line %s", compare, print, knownhosts.Line([]string{host}, key))
	}
	err := t.known(host, remote, key)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*knownhosts.KeyError](err); ok && len(e.Want) == 0 {
		return no("%s has no key of the server; it shows %s %s", t.file, key.Type(), print).
			Advise("%s, and if it is the same, add to %s the line %s", compare, t.file, knownhosts.Line([]string{host}, key))
	} else if ok {
		return no("the server's key is %s %s, and not the one of %s", key.Type(), print, e.Want[0].String()).
			Advise("somebody may have taken the server's place: %s; only if it has a new key, put into %s the line %s", compare, t.file, knownhosts.Line([]string{host}, key))
	}
	return no("%v", err).Advise("%s; it is not to be trusted as it is", compare)
}
