package s3

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"

	"github.com/minio/minio-go/v7"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// token is what goes on with a file later. The key follows from the name; the server
// lists the parts.
type token struct {
	Upload string `json:"upload,omitempty"`
	Parts  int    `json:"parts,omitempty"`
	Base   int64  `json:"base"` // bytes of a part
	Sum    string `json:"sum,omitempty"`
	CRC    string `json:"crc,omitempty"` // CRC32C of the bytes of the parts
	Tail   *tail  `json:"tail,omitempty"`
	// Of Copy: the source as it was.
	ETag string `json:"etag,omitempty"`
	Size int64  `json:"size,omitempty"`
	Bare bool   `json:"bare,omitempty"` // without checksums
}

// tail is what has come after the last whole part: an object beside the file, because a
// server does not give the bytes of a part back.
type tail struct {
	ID   string `json:"id"`
	Size int64  `json:"size"`
	CRC  string `json:"crc"`
}

func (t tail) key(of string) string { return path.Join(path.Dir(of), ".pannier-"+t.ID+".part") }

var tailID = regexp.MustCompile(`^[0-9a-f]{16}$`)

func parseToken(b []byte) (t token, err error) {
	bad := json.Unmarshal(b, &t) != nil || t.Parts < 0 || t.Parts > maxParts || t.Size < 0 || (t.Parts > 0 && t.Upload == "") || t.Base < 1 || t.Base > maxSize/1000
	if t.Tail != nil {
		bad = bad || !tailID.MatchString(t.Tail.ID) || t.Tail.Size < 0 || t.Tail.Size > t.Base<<5
	}
	if bad {
		return token{}, fault.New("s3 resume", fault.Invalid, "what is to be gone on with is not what an earlier Abort or Copy has returned").Advise("begin the file anew")
	}
	return t, nil
}

func (t token) bytes() ([]byte, error) {
	b, err := json.Marshal(t)
	if err != nil || len(b) > plugins.MaxResume {
		return nil, fault.New("s3 resume", fault.TooLong, "the server's name of the upload has %d bytes, too many to be kept", len(t.Upload))
	}
	return b, nil
}

// digest is by what parts are known again: number, size and ETag of each.
func digest(parts []minio.ObjectPart) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d %d %q\n", p.PartNumber, p.Size, p.ETag)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// merged is the CRC32C of parts together; "" if that of one is not known.
func merged(parts []minio.ObjectPart) string {
	all, err := minio.ChecksumFullObjectCRC32C.FullObjectChecksum(append([]minio.ObjectPart(nil), parts...))
	if err != nil {
		return ""
	}
	return all.Encoded()
}

// sum is the CRC32C of the bytes that were written; of those before a resume it is what
// was computed then, and not what the server says.
func (t *staged) sum(parts []minio.ObjectPart) string {
	if len(t.before) > 0 {
		parts = append([]minio.ObjectPart{t.prefix}, parts[len(t.before):]...)
	}
	return merged(parts)
}

// keep makes the token of what the server has.
func (t *staged) keep(ctx context.Context) ([]byte, error) {
	parts := t.parts()
	k := token{Upload: t.upload, Parts: len(parts), Base: t.base}
	if len(parts) > 0 {
		k.Sum = digest(parts)
		k.CRC = t.sum(parts)
	}
	if p := t.cur; p != nil && p.size > 0 && len(parts) == len(t.before)+len(t.full) {
		k.Tail = t.tail
		if k.Tail == nil {
			var id [8]byte
			_, _ = rand.Read(id[:])
			k.Tail = &tail{ID: hex.EncodeToString(id[:])}
		}
		k.Tail.Size, k.Tail.CRC = p.size, crcText(p.crc)
		if _, err := t.s.putObject(ctx, k.Tail.key(t.key), p); err != nil {
			k.Tail = nil // the parts are what there is
		}
	}
	if k.Tail == nil {
		t.removeTail(ctx)
		if len(parts) == 0 {
			return nil, t.discard(ctx) // nothing to go on from
		}
	}
	return k.bytes()
}

// Checkpoint implements plugins.Checkpointer: the parts that the server has.
func (t *staged) Checkpoint(context.Context) ([]byte, error) {
	parts := t.parts()
	if len(parts) == 0 {
		return nil, nil
	}
	t.mu.Lock()
	upload := t.upload
	t.mu.Unlock()
	return token{Upload: upload, Parts: len(parts), Base: t.base, Sum: digest(parts), CRC: t.sum(parts)}.bytes()
}

// resume goes on with what is left of a file at the server: the parts, if they are those
// that were sent, and what was kept beside them. Otherwise it begins anew.
func (t *staged) resume(ctx context.Context, b []byte) error {
	k, err := parseToken(b)
	if err != nil {
		return err
	}
	t.tail = k.Tail
	if k.Upload != "" {
		parts, err := t.s.listed(ctx, t.key, k)
		switch {
		case fault.KindOf(err) == fault.Stale || fault.KindOf(err) == fault.NotFound:
			t.removeTail(ctx)
			return nil
		case err != nil:
			return err
		case parts == nil:
			t.removeTail(ctx)
			return t.s.abortUpload(ctx, t.key, k.Upload)
		}
		t.upload, t.before = k.Upload, parts
		for _, p := range parts {
			t.sent += p.Size
		}
		t.prefix = minio.ObjectPart{PartNumber: 1, Size: t.sent, ChecksumCRC32C: k.CRC}
	}
	t.base = k.Base
	t.offset = t.sent
	if t.size >= 0 && t.sent > t.size || t.size > t.base*maxParts {
		_ = t.discard(ctx)
		t.upload, t.before, t.sent, t.offset, t.base = "", nil, 0, 0, t.s.config.partSize(t.size)
		return nil
	}
	return t.takeTail(ctx)
}

// listed are the parts of an upload, if they are the token's; nil: they are not.
func (s *session) listed(ctx context.Context, key string, k token) (parts []minio.ObjectPart, err error) {
	all, err := s.have(ctx, key, k.Upload)
	if err != nil {
		return nil, err
	}
	for number := 1; number <= k.Parts; number++ {
		p, ok := all[number]
		if !ok {
			return nil, nil
		}
		parts = append(parts, p)
	}
	if k.Parts > 0 && digest(parts) != k.Sum {
		return nil, nil
	}
	if all := merged(parts); all != "" && k.CRC != "" && all != k.CRC {
		return nil, nil
	}
	return parts, nil
}

// takeTail reads what was kept beside the parts into memory.
func (t *staged) takeTail(ctx context.Context) error {
	if t.tail == nil || t.size >= 0 && t.sent+t.tail.Size > t.size || t.tail.Size > t.most(t.next()) {
		return nil
	}
	key := t.tail.key(t.key)
	body, _, _, err := t.s.core.GetObject(expect(ctx, asFile), t.s.config.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		switch err = t.s.failed(ctx, "GetObject", key, err); fault.KindOf(err) {
		case fault.NotFound, fault.Permission:
			return nil
		}
		return err
	}
	defer body.Close()
	if err := t.begin(ctx); err != nil {
		return err
	}
	buf := make([]byte, plugins.BlockSize)
	for t.cur.size <= t.tail.Size {
		n, err := body.Read(buf)
		t.cur.write(buf[:n], t.tail.Size+1)
		if err == io.EOF {
			break
		}
		if err != nil {
			return t.s.failed(ctx, "GetObject", key, err)
		}
	}
	if t.cur.size != t.tail.Size || crcText(t.cur.crc) != t.tail.CRC {
		t.cur.release()
		t.room.Release(t.cur.weight)
		t.cur = nil
		return nil
	}
	t.sent += t.cur.size
	t.offset = t.sent
	return nil
}

// unquoted is an ETag without its quotes.
func unquoted(etag string) string {
	if n := len(etag); n > 1 && etag[0] == '"' && etag[n-1] == '"' {
		return etag[1 : n-1]
	}
	return etag
}
