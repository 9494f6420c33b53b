package task

import (
	"context"
	"encoding/hex"
	"io"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

const nonBlocking = syscall.O_NONBLOCK

// checkTask fails a request whose file, or place, is not as expected.
type checkTask struct {
	min, max *Size
	name     string   // pattern of path.Match for the last element; empty: any
	paths    []string // patterns of matchPath, of which one has to fit; none: any
	age      time.Duration
	free     Size
	digest   Template
	digested bool
}

func newCheck(t *Table) (Task, error) {
	c := checkTask{min: t.MinSize, max: t.MaxSize, name: t.Name, paths: t.Paths, age: time.Duration(t.MinAge), free: t.FreeSpace, digested: t.Digest != ""}
	if _, err := path.Match(t.Name, ""); err != nil {
		return nil, invalid("name %q is not a pattern: %v", t.Name, err)
	}
	for _, p := range t.Paths {
		if _, err := path.Match(p, ""); err != nil || p == "" || strings.HasPrefix(p, "/") {
			return nil, invalid("paths has %q: write patterns of names below the rule's root, as \"in/*.xml\" or \"in/**\"", p)
		}
	}
	if t.FreeSpace < 0 {
		return nil, invalid("free_space is %d: write how many bytes have to be free", t.FreeSpace)
	}
	if c.min == nil && c.max == nil && c.name == "" && len(c.paths) == 0 && c.age == 0 && c.free == 0 && !c.digested {
		return nil, invalid("set what to check: min_size, max_size, name, paths, digest, min_age or free_space")
	}
	if c.min != nil && c.max != nil && *c.min > *c.max {
		return nil, invalid("min_size is %d and max_size %d: no file has both", *c.min, *c.max)
	}
	var err error
	if c.digest, err = ParseTemplate(t.Digest); err == nil && c.digested && !strings.ContainsAny(t.Digest, "{}") {
		err = checkDigest(t.Digest)
	}
	return c, err
}

// checkDigest refuses a text that no file's digest is.
func checkDigest(s string) error {
	name, digits, _ := strings.Cut(s, ":")
	size := map[string]int{"sha256": 32, "sha512": 64, "blake3": 32}[name]
	if b, err := hex.DecodeString(digits); err != nil || size == 0 || len(b) != size {
		return invalid("digest is %q: write sha256: and 64 hexadecimal digits, sha512: and 128, or blake3: and 64", s)
	}
	return nil
}

func (c checkTask) Run(ctx context.Context, on *On) (Result, error) {
	const op = "check file"
	if c.free > 0 {
		free, err := freeSpace(on.Root)
		if err != nil {
			return Result{}, err
		}
		if free < int64(c.free) {
			return Result{}, fault.New("check free space", fault.NoSpace, "%d bytes are free, %d are wanted", free, c.free)
		}
	}
	if err := NeedFile(on); err != nil {
		return Result{}, err
	}
	if ok, _ := path.Match(c.name, path.Base(on.File.String())); c.name != "" && !ok {
		return Result{}, fault.New(op, fault.Refused, "its name does not match %q", c.name)
	}
	if len(c.paths) > 0 && !matchesAny(c.paths, on.File.String()) {
		return Result{}, fault.New(op, fault.Refused, "its name matches none of %q", c.paths)
	}
	if c.min == nil && c.max == nil && c.age == 0 && !c.digested {
		return Result{}, nil // names alone: at a receiver's pre tasks there is no file yet
	}
	f, err := OpenRegular(on.Root, on.File)
	if err != nil {
		return Result{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return Result{}, err
	case c.min != nil && fi.Size() < int64(*c.min):
		return Result{}, fault.New(op, fault.Refused, "it has %d bytes, at least %d are wanted", fi.Size(), *c.min)
	case c.max != nil && fi.Size() > int64(*c.max):
		return Result{}, fault.New(op, fault.Refused, "it has %d bytes, at most %d are wanted", fi.Size(), *c.max)
	case c.age > 0 && time.Since(fi.ModTime()) < c.age:
		return Result{}, fault.New(op, fault.Refused, "it was written to %v ago: somebody may still do; %v are wanted", time.Since(fi.ModTime()).Round(time.Millisecond), c.age)
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
		return Result{}, fault.New(op, fault.Corrupt, "its digest is %s, %s is wanted: %w", got, want, ErrVerdict)
	}
	return Result{Output: []byte(sum.String())}, nil
}

// freeSpace is what this process may still write where the root is, in bytes.
func freeSpace(root *os.Root) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(root.Name(), &st); err != nil {
		return 0, fault.Wrap("ask for free space", root.Name(), err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

func matchesAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if matchPath(strings.Split(p, "/"), strings.Split(name, "/")) {
			return true
		}
	}
	return false
}

// matchPath compares a name with a pattern, element by element; "**" is any number of
// elements, none too.
func matchPath(pattern, name []string) bool {
	// The last "**" that was met, and what of the name it has eaten: earlier ones need not
	// be tried again, so that no pattern takes longer than the two lengths multiplied.
	star, eaten, p, n := -1, 0, 0, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == "**" {
			star, eaten = p, n
			p++
			continue
		}
		if p < len(pattern) {
			if ok, _ := path.Match(pattern[p], name[n]); ok {
				p, n = p+1, n+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		eaten++
		p, n = star+1, eaten
	}
	for p < len(pattern) && pattern[p] == "**" {
		p++
	}
	return p == len(pattern)
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
		_, err = io.Copy(h, While(ctx, r))
		return h.Sum(), err
	}
	return sideeffect.Sum{}, fault.New("compute digest", fault.Invalid, "%q is no digest: write sha256:, sha512: or blake3: and the hexadecimal digits", algorithm)
}
