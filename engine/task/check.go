package task

import (
	"context"
	"io"
	"path"
	"strings"
	"syscall"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

const nonBlocking = syscall.O_NONBLOCK

// checkTask fails a request whose file is not as expected.
type checkTask struct {
	min, max *int64
	name     string // pattern of path.Match; empty: any
	digest   Template
	digested bool
}

func newCheck(t *Table) (Task, error) {
	c := checkTask{min: t.MinSize, max: t.MaxSize, name: t.Name, digested: t.Digest != ""}
	if _, err := path.Match(t.Name, ""); err != nil {
		return nil, invalid("name %q is not a pattern: %v", t.Name, err)
	}
	if c.min == nil && c.max == nil && c.name == "" && !c.digested {
		return nil, invalid("set what to check: min_size, max_size, name or digest")
	}
	var err error
	c.digest, err = ParseTemplate(t.Digest)
	return c, err
}

func (c checkTask) Run(ctx context.Context, on *On) (Result, error) {
	const op = "check file"
	if err := needFile(on); err != nil {
		return Result{}, err
	}
	if ok, _ := path.Match(c.name, path.Base(on.File.String())); c.name != "" && !ok {
		return Result{}, fault.New(op, fault.Refused, "its name does not match %q", c.name)
	}
	f, err := openRegular(on.Root, on.File)
	if err != nil {
		return Result{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return Result{}, err
	case c.min != nil && fi.Size() < *c.min:
		return Result{}, fault.New(op, fault.Refused, "it has %d bytes, at least %d are wanted", fi.Size(), *c.min)
	case c.max != nil && fi.Size() > *c.max:
		return Result{}, fault.New(op, fault.Refused, "it has %d bytes, at most %d are wanted", fi.Size(), *c.max)
	case !c.digested:
		return Result{}, nil
	}
	want := c.digest.Fill(on.Vars)
	name, _, _ := strings.Cut(want, ":")
	sum, err := digestOf(ctx, name, f)
	if err != nil {
		return Result{}, err
	}
	if got := sum.String(); !strings.EqualFold(got, want) {
		return Result{}, fault.New(op, fault.Corrupt, "its digest is %s, %s is wanted", got, want)
	}
	return Result{Output: []byte(sum.String())}, nil
}

// digestOf reads r to its end.
func digestOf(ctx context.Context, algorithm string, r io.Reader) (sideeffect.Sum, error) {
	for _, a := range []sideeffect.Algorithm{sideeffect.SHA256, sideeffect.SHA512, sideeffect.BLAKE3} {
		if a.String() != algorithm {
			continue
		}
		h, err := sideeffect.NewHasher(a)
		if err != nil {
			return sideeffect.Sum{}, err
		}
		_, err = io.Copy(h, &untilDone{ctx, r})
		return h.Sum(), err
	}
	return sideeffect.Sum{}, fault.New("compute digest", fault.Invalid, "%q is no digest: write sha256:, sha512: or blake3: and the hexadecimal digits", algorithm)
}
