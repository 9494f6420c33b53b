package ftp

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// algorithm is a checksum that servers compute: by HASH with its name, or by a command.
type algorithm struct {
	name    string
	hash    string   // of HASH
	command []string // the ones of FEAT
	size    int      // bytes
	make    func() hash.Hash
}

// algorithms, the best first.
var algorithms = []algorithm{
	{"sha256", "SHA-256", []string{"XSHA256"}, 32, sha256.New},
	{"sha512", "SHA-512", []string{"XSHA512"}, 64, sha512.New},
	{"sha1", "SHA-1", []string{"XSHA1", "XSHA"}, 20, sha1.New},
	{"md5", "MD5", []string{"XMD5"}, 16, md5.New},
	{"crc32", "CRC32", []string{"XCRC"}, 4, func() hash.Hash { return crc32.NewIEEE() }},
}

func (f features) hashes(a algorithm) bool {
	for _, h := range strings.Split(f["HASH"], ";") {
		if strings.TrimSuffix(strings.TrimSpace(h), "*") == a.hash {
			return true
		}
	}
	return false
}

// command is the server's for an algorithm; "" if it has none.
func (f features) command(a algorithm) string {
	for _, w := range a.command {
		if f.has(w) {
			return w
		}
	}
	return ""
}

func (f features) checksums() (names []string) {
	for _, a := range algorithms {
		if f.hashes(a) || f.command(a) != "" {
			names = append(names, a.name)
		}
	}
	return names
}

// common is the best algorithm that is among all the names.
func common(names ...[]string) (algorithm, bool) {
	for _, a := range algorithms {
		if !slices.ContainsFunc(names, func(n []string) bool { return !slices.Contains(n, a.name) }) {
			return a, true
		}
	}
	return algorithm{}, false
}

// Checksum has the server compute one.
func (s *session) Checksum(ctx context.Context, name, alg string, length int64) (sum []byte, err error) {
	path, err := s.path(name)
	if err != nil {
		return nil, err
	}
	a, ok := common(s.caps.Checksums, []string{alg})
	if !ok {
		return nil, fault.New("ftp checksum", fault.Unsupported, "the server does not compute %s, but: %s", fault.Shown(alg), fault.Shown(strings.Join(s.caps.Checksums, ", ")))
	}
	err = s.with(ctx, func(c *conn) error {
		sum, err = c.checksum(ctx, path, a, length)
		return err
	})
	return sum, err
}

// patience is how long a server may compute on so many bytes.
func (s *session) patience(size int64) time.Duration {
	return s.timeout + time.Duration(size/(20<<20))*time.Second
}

// checksum asks for one of the first length bytes, or all. Whole files are asked for with
// HASH, whose name needs no quotes; parts with the older commands, because servers that
// have HASH do not heed RANG.
func (c *conn) checksum(ctx context.Context, path string, a algorithm, length int64) ([]byte, error) {
	size, err := c.size(ctx, path)
	if err != nil {
		return nil, err
	}
	if length < -1 || length > size {
		return nil, c.said(fault.Invalid, "checksum", path, "it is to be of %d bytes: the file has %d", length, size)
	}
	if length == 0 {
		return a.make().Sum(nil), nil
	}
	old := c.s.feat.command(a)
	if length == size || length < 0 {
		if c.s.feat.hashes(a) {
			return c.sumHASH(ctx, path, a, size)
		}
		if strings.ContainsAny(path, `"\`) { // servers differ in how they read these
			return nil, c.said(fault.Unsupported, "checksum", path, "the name cannot be said in a command of %s", old)
		}
		return c.sumOld(ctx, old, path, a, quoted(path), size)
	}
	if old == "" || strings.ContainsAny(path, `"\`) {
		return nil, c.said(fault.Unsupported, "checksum", path, "the server computes %s of whole files only", a.name)
	}
	return c.sumOld(ctx, old, path, a, `"`+path+`" 0 `+strconv.FormatInt(length, 10), length)
}

// quoted is a name for the older commands, which take what is after a space for an offset.
func quoted(path string) string {
	if strings.Contains(path, " ") {
		return `"` + path + `"`
	}
	return path
}

func (c *conn) sumHASH(ctx context.Context, path string, a algorithm, size int64) ([]byte, error) {
	if c.hash != a.hash {
		if _, err := c.must(ctx, "OPTS", "HASH "+a.hash); err != nil {
			return nil, err
		}
		c.hash = a.hash
	}
	r, err := c.slow(ctx, "HASH "+path, c.s.patience(size))
	if err != nil {
		return nil, err
	}
	if !r.good() {
		return nil, c.refused("HASH", path, r)
	}
	for _, l := range r.lines {
		if f := strings.Fields(l); len(f) >= 3 && f[0] == a.hash { // SHA-256 0-1234 HEX NAME
			return c.digest("HASH", path, a, f[2])
		}
	}
	return nil, c.said(fault.Protocol, "HASH", path, "this is no %s: %s", a.hash, fault.Shown(r.text()))
}

func (c *conn) sumOld(ctx context.Context, word, path string, a algorithm, arg string, size int64) ([]byte, error) {
	r, err := c.slow(ctx, word+" "+arg, c.s.patience(size))
	if err != nil {
		return nil, err
	}
	if !r.good() {
		return nil, c.refused(word, path, r)
	}
	for _, f := range strings.Fields(r.lines[len(r.lines)-1]) {
		if sum, err := c.digest(word, path, a, f); err == nil {
			return sum, nil
		}
	}
	for _, l := range r.lines {
		for _, f := range strings.Fields(l) {
			if sum, err := c.digest(word, path, a, f); err == nil {
				return sum, nil
			}
		}
	}
	return nil, c.said(fault.Protocol, word, path, "this is no %s: %s", a.name, fault.Shown(r.text()))
}

func (c *conn) digest(word, path string, a algorithm, text string) ([]byte, error) {
	if a.name == "crc32" && len(text) < 8 {
		text = strings.Repeat("0", 8-len(text)) + text
	}
	sum, err := hex.DecodeString(text)
	if err != nil || len(sum) != a.size {
		return nil, c.said(fault.Protocol, word, path, "this is no %s: %s", a.name, fault.Shown(text))
	}
	return sum, nil
}

// compare says whether the server's checksum is the given one.
func (c *conn) compare(ctx context.Context, path string, a algorithm, want []byte) error {
	got, err := c.checksum(ctx, path, a, -1)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return c.said(fault.Corrupt, "checksum", path, "the server's file has %s %x, the source %x", a.name, got, want).
			Advise("send it again; if it happens again, something on the way or at the server changes bytes")
	}
	return nil
}
