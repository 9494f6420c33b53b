package sftp

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"log/slog"
	"slices"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// algorithm is a checksum that servers compute which have check-file.
type algorithm struct {
	name string // and at the server
	size int    // bytes
	make func() hash.Hash
}

// algorithms, the best first.
var algorithms = []algorithm{
	{"sha256", 32, sha256.New},
	{"sha512", 64, sha512.New},
	{"sha1", 20, sha1.New},
	{"md5", 16, md5.New},
}

// best is the best of the names.
func best(names []string) (algorithm, bool) {
	for _, a := range algorithms {
		if slices.Contains(names, a.name) {
			return a, true
		}
	}
	return algorithm{}, false
}

// sums asks which checksums the server computes: in VERSION it says only that it does some.
// Who does not know an algorithm says so, who does says that a directory has no such sum.
func (c *conn) sums(ctx context.Context, dir string) (names []string, err error) {
	if !c.has(extSum) {
		return nil, nil
	}
	for _, a := range algorithms {
		_, err := c.sum(ctx, dir, a, 1)
		if err != nil && c.dead() {
			return nil, err
		}
		if fault.KindOf(err) != fault.Unsupported {
			names = append(names, a.name)
		}
	}
	return names, nil
}

// Checksum has the server compute one.
func (s *session) Checksum(ctx context.Context, name, alg string, length int64) (sum []byte, err error) {
	path, err := s.path(name)
	if err != nil {
		return nil, err
	}
	a, ok := best([]string{alg})
	if !ok || !slices.Contains(s.caps.Checksums, alg) {
		return nil, fault.New("sftp checksum", fault.Unsupported, "the server does not compute %s, but: %s", fault.Shown(alg), fault.Shown(strings.Join(s.caps.Checksums, ", ")))
	}
	err = s.with(ctx, func(c *conn) error {
		found, err := c.stat(ctx, path)
		if err != nil {
			return err
		}
		if length < -1 || length > found.size {
			return c.said(fault.Invalid, extSum, path, "it is to be of %d bytes: the file has %d", length, found.size)
		}
		if length < 0 {
			length = found.size
		}
		sum, err = c.sum(ctx, path, a, length)
		return err
	})
	return sum, err
}

// sum asks for one of the first length bytes.
func (c *conn) sum(ctx context.Context, path string, a algorithm, length int64) ([]byte, error) {
	if length == 0 { // means all to the server
		return a.make().Sum(nil), nil
	}
	k := &call{op: extSum, path: path, slow: patience(length)}
	f, err := c.do(ctx, fxExtendedReply, ask(fxExtended, "check-file-name", path, a.name).long(0).long(length).number(0), k)
	if err != nil {
		return nil, err
	}
	said := f.text()
	if said == extSum { // as the draft's first versions have it
		said = f.text()
	}
	if f.bad || said != a.name || len(f.b) != a.size {
		return nil, c.said(fault.Protocol, extSum, path, "this is no %s: %d bytes of %s", a.name, len(f.b), fault.Shown(said))
	}
	return f.b, nil
}

// compare compares the server's checksum with the given one. False: the server has computed
// none, although it lists it.
func (c *conn) compare(ctx context.Context, path string, a algorithm, want []byte, size int64) (bool, error) {
	got, err := c.sum(ctx, path, a, size)
	if fault.KindOf(err) == fault.Unsupported {
		slog.Warn("the server has not computed a checksum: the file was compared by size", "file", c.at(path), "err", err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !bytes.Equal(got, want) {
		return false, c.said(fault.Corrupt, extSum, path, "the server's file has %s %x, the source %x", a.name, got, want).
			Advise("send it again; if it happens again, something on the way or at the server changes bytes")
	}
	return true, nil
}
