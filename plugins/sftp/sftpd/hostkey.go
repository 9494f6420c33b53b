package sftpd

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/spec/fault"
)

// hostKey is the key in the file, which is made if it is not there.
func hostKey(file string) (ssh.Signer, error) {
	text, err := readKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(file); err == nil {
			text, err = readKey(file)
		}
	}
	if err != nil {
		return nil, fault.Wrap("read host key", file, err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fault.Wrap("read host key", file, fault.New("parse", fault.Invalid, "%w", err).Advise("name a file with a private key in PEM without a passphrase, or one that is not there, and it is made"))
	}
	if key.PublicKey().Type() == ssh.KeyAlgoRSA { // without SHA-1
		if key, err = ssh.NewSignerWithAlgorithms(key.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512}); err != nil {
			return nil, fault.Wrap("read host key", file, err)
		}
	}
	return key, nil
}

// readKey reads a file that others must not read.
func readKey(file string) ([]byte, error) {
	fi, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > 1<<20 {
		return nil, fault.New("look", fault.Invalid, "it is no file with a key")
	}
	if fi.Mode().Perm()&0o007 != 0 {
		return nil, fault.New("look", fault.Permission, "everybody may read or change it").Advise("take that away: chmod o= FILE")
	}
	return os.ReadFile(file)
}

// makeKey makes a file that is whole when it is there; of two that do the first counts.
func makeKey(file string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".hostkey-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = pem.Encode(f, block)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	slog.Info("a host key was made", "file", file)
	return nil
}
