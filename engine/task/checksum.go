package task

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"io"
	"path"
	"strings"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Files of digests, as sha256sum, sha512sum and b3sum write and check them: a line is
// the digits, two spaces or a space and an asterisk, and the last element of a name.

// checksumTask writes one for the request's file.
type checksumTask struct {
	algorithm string
	to        Template
}

func newChecksum(t *Table) (Task, error) {
	c := checksumTask{}
	var err error
	if c.algorithm, err = algorithmOf(t); err != nil {
		return nil, err
	}
	c.to, err = ParseName(cmp.Or(t.To, "{path}."+c.algorithm))
	return c, err
}

// algorithmOf is the digest of checksum and verify.
func algorithmOf(t *Table) (string, error) {
	switch name := cmp.Or(t.Digest, "sha256"); name {
	case "sha256", "sha512", "blake3":
		return name, nil
	}
	return "", invalid("digest is %q: write sha256, sha512 or blake3", t.Digest)
}

// Run implements Task. The request's file stays what it is.
func (c checksumTask) Run(ctx context.Context, on *On) (Result, error) {
	to, err := c.to.Path(on.Vars)
	if err != nil {
		return Result{}, err
	}
	if to == on.File {
		return Result{}, fault.New("make name", fault.Invalid, "%q is the file itself: set to to another name", to)
	}
	digits, err := digitsOf(ctx, on, c.algorithm)
	if err != nil {
		return Result{}, err
	}
	line := digits + "  " + path.Base(on.File.String()) + "\n"
	if err := sideeffect.MakeDirs(on.Root, to.Dir()); err != nil {
		return Result{}, err
	}
	return Result{Output: []byte(line)}, Write(ctx, on, to, func(w io.Writer) error {
		_, err := io.WriteString(w, line)
		return err
	})
}

// digitsOf are the hexadecimal digits of the request's file.
func digitsOf(ctx context.Context, on *On, algorithm string) (string, error) {
	if err := NeedFile(on); err != nil {
		return "", err
	}
	f, err := OpenRegular(on.Root, on.File)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum, err := digestOf(ctx, algorithm, f)
	if err != nil {
		return "", err
	}
	_, digits, _ := strings.Cut(sum.String(), ":")
	return digits, nil
}

// verifyTask compares the request's file with what such a file says of it.
type verifyTask struct {
	algorithm string
	path      Template
}

func newVerify(t *Table) (Task, error) {
	v := verifyTask{}
	var err error
	if v.algorithm, err = algorithmOf(t); err != nil {
		return nil, err
	}
	v.path, err = ParseName(cmp.Or(t.Path, "{path}."+v.algorithm))
	return v, err
}

// Run implements Task.
func (v verifyTask) Run(ctx context.Context, on *On) (Result, error) {
	const op = "verify file"
	from, err := v.path.Path(on.Vars)
	if err != nil {
		return Result{}, err
	}
	want, err := v.wanted(ctx, on, from)
	if err != nil {
		return Result{}, err
	}
	got, err := digitsOf(ctx, on, v.algorithm)
	if err != nil {
		return Result{}, err
	}
	if !strings.EqualFold(got, want) {
		return Result{}, fault.New(op, fault.Corrupt, "its %s is %s, and %s says %s: %w", v.algorithm, got, from, want, ErrVerdict)
	}
	return Result{Output: []byte(v.algorithm + ":" + got)}, nil
}

// mostSums is how much of a file of digests is read.
const mostSums = 16 << 20

// wanted are the digits that a file of digests has for the request's file.
func (v verifyTask) wanted(ctx context.Context, on *On, from relpath.Path) (string, error) {
	const op = "read checksums"
	f, err := OpenRegular(on.Root, from)
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(While(ctx, f), mostSums))
	name := path.Base(on.File.String())
	for lines.Scan() {
		digits, rest, ok := bytes.Cut(lines.Bytes(), []byte(" "))
		if !ok || len(rest) == 0 || rest[0] != ' ' && rest[0] != '*' || path.Base(string(rest[1:])) != name {
			continue
		}
		if _, err := hex.DecodeString(string(digits)); err != nil {
			return "", fault.New(op, fault.Invalid, "%s has no digest for %s but %q", from, name, digits)
		}
		return string(digits), nil
	}
	if err := lines.Err(); err != nil {
		return "", fault.New(op, fault.Invalid, "%s is no file of checksums: %w", from, err)
	}
	return "", fault.New(op, fault.NotFound, "%s says nothing of %s", from, name)
}
