package crypt

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// Files as age has them, https://age-encryption.org/v1.

const extension = ".age"

// encryptTask encrypts the request's file for those who are in a file.
type encryptTask struct {
	task.Product
	recipients string // path
}

func newEncrypt(t *task.Table) (task.Task, error) {
	path, err := task.FileOf("recipients", t.Recipients)
	if err != nil {
		return nil, err
	}
	if path == "" {
		return nil, fault.New("check table", fault.Invalid, "set recipients, the file of public keys, a line each: recipients = \"file:/etc/pannier/recipients\"")
	}
	p, err := task.NewProduct(t, "{path}"+extension)
	return encryptTask{p, path}, err
}

// Run implements task.Task.
func (e encryptTask) Run(ctx context.Context, on *task.On) (task.Result, error) {
	text, err := task.ReadFile(e.recipients)
	if err != nil {
		return task.Result{}, err
	}
	to, err := age.ParseRecipients(bytes.NewReader(text))
	if err != nil {
		return task.Result{}, badKeys(e.recipients, "public keys of age, a line each: as age-keygen -y prints them")
	}
	return e.Make(ctx, on, "", func(w io.Writer, src *os.File) error {
		z, err := age.Encrypt(w, to...)
		if err != nil {
			return err
		}
		if _, err := io.Copy(z, src); err != nil {
			return err
		}
		return z.Close()
	})
}

// decryptTask makes of an encrypted file what it was.
type decryptTask struct {
	task.Product
	identities string // path
}

func newDecrypt(t *task.Table) (task.Task, error) {
	path, err := task.FileOf("identities", t.Identities)
	if err != nil {
		return nil, err
	}
	if path == "" {
		return nil, fault.New("check table", fault.Invalid, "set identities, the file of private keys: identities = \"file:/etc/pannier/age.key\"")
	}
	p, err := task.NewProduct(t, "")
	return decryptTask{p, path}, err
}

// Run implements task.Task. Each part is authenticated before it is written, and the last
// one before the file has its name.
func (d decryptTask) Run(ctx context.Context, on *task.On) (task.Result, error) {
	text, err := task.ReadSecret(d.identities)
	if err != nil {
		return task.Result{}, err
	}
	with, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return task.Result{}, badKeys(d.identities, "private keys of age, as age-keygen makes them")
	}
	name, is := strings.CutSuffix(on.File.String(), extension)
	if !is {
		name += ".out"
	}
	return d.Make(ctx, on, name, func(w io.Writer, src *os.File) error {
		r, err := age.Decrypt(unarmoured(src), with...)
		if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
			return fault.New("decrypt", fault.Permission, "the file is encrypted for others: none of the keys in %s fits", d.identities)
		}
		if err == nil {
			_, err = io.Copy(w, r)
		}
		if err != nil && ctx.Err() == nil && fault.KindOf(err) == fault.Internal {
			err = fault.New("decrypt", fault.Refused, "%w", err)
		}
		return err
	})
}

// unarmoured is what is in a file that may be written as text, as age --armor does.
func unarmoured(src io.Reader) io.Reader {
	b := bufio.NewReader(src)
	if begin, _ := b.Peek(len(armor.Header)); string(begin) == armor.Header {
		return armor.NewReader(b)
	}
	return b
}

// badKeys does not say what is there: it may be a key.
func badKeys(path, want string) error {
	return &fault.Error{Op: "read keys", Kind: fault.Invalid, Subject: path, Err: errors.New("it does not have " + want)}
}
