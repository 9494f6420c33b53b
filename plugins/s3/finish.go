package s3

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"log/slog"
	"strconv"

	"github.com/minio/minio-go/v7"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// Commit has the server give the file its name, and compares what it has then with what
// was sent.
func (t *staged) Commit(ctx context.Context) (plugins.Attr, error) {
	t.mu.Lock()
	over := t.over
	if over && !t.done && t.end1 == nil {
		t.end1 = fault.New("s3 commit", fault.Stale, "the write was aborted")
	}
	t.over = true
	t.mu.Unlock()
	if over {
		return t.attr, t.end1
	}
	t.attr, t.end1 = t.commit(ctx)
	t.done = t.end1 == nil
	if t.done {
		if t.cur != nil {
			t.cur.release()
		}
		t.end(context.Canceled)
		t.broken(context.Canceled)
	}
	return t.attr, t.end1
}

func (t *staged) commit(ctx context.Context) (plugins.Attr, error) {
	if t.size >= 0 && t.sent != t.size {
		return plugins.Attr{}, t.s.said(fault.Corrupt, "CompleteMultipartUpload", t.key, "%d bytes came of the %d that were announced", t.sent, t.size)
	}
	t.mu.Lock()
	err := t.err
	t.mu.Unlock()
	if err != nil {
		return plugins.Attr{}, err
	}
	var has sent
	if t.upload == "" {
		has, err = t.putWhole(ctx)
	} else {
		has, err = t.complete(ctx)
	}
	if err != nil {
		if err = t.s.settle(ctx, t.key, has, err); err != nil {
			return plugins.Attr{}, err
		}
	}
	a, err := t.s.compare(ctx, t.key, has)
	a.Name = t.name
	if err == nil {
		t.removeTail(ctx)
	}
	return a, err
}

// sent is what the server is to have under the name.
type sent struct {
	size int64
	crc  string // CRC32C of all of it; "" = the server was not told
	etag string // that the server has said, or that follows from those of the parts; "" = unknown
}

// putWhole sends a file that is one part.
func (t *staged) putWhole(ctx context.Context) (sent, error) {
	p := t.cur
	if p == nil {
		p = newPart(1, t.s.config.secure)
	}
	has, err := t.s.putObject(ctx, t.key, p)
	if err == nil {
		p.release()
	}
	return has, err
}

// putObject makes an object of a part.
func (s *session) putObject(ctx context.Context, key string, p *part) (has sent, err error) {
	has.size = p.size
	opts := minio.PutObjectOptions{DisableContentSha256: true}
	if s.config.crc {
		has.crc = crcText(p.crc)
		opts.UserMetadata = map[string]string{"x-amz-checksum-crc32c": has.crc}
	}
	err = again(ctx, func() error {
		body := p.open()
		defer body.stop()
		got, err := s.core.PutObject(ctx, s.config.bucket, key, body, p.size, "", p.digest(), opts)
		if err == nil && has.crc != "" && got.ChecksumCRC32C != "" && got.ChecksumCRC32C != has.crc {
			return s.said(fault.Corrupt, "PutObject", key, "the server has CRC32C %s, sent was %s", fault.Shown(got.ChecksumCRC32C), has.crc).Advise(changed)
		}
		has.etag = got.ETag
		return s.failed(ctx, "PutObject", key, err)
	})
	return has, err
}

// complete sends the last part, and has the server put all together.
func (t *staged) complete(ctx context.Context) (sent, error) {
	if t.cur != nil && t.cur.size > 0 {
		if err := t.send(ctx); err != nil {
			return sent{}, err
		}
	}
	t.settled(ctx)
	t.mu.Lock()
	err := t.err
	t.mu.Unlock()
	if err != nil {
		if ctx.Err() != nil {
			err = t.s.failed(ctx, "UploadPart", t.key, ctx.Err())
		}
		return sent{}, err
	}
	parts := t.parts()
	crc := ""
	if t.s.config.crc {
		crc = t.sum(parts)
	}
	return t.s.join(ctx, t.key, t.upload, parts, crc)
}

// join completes an upload. crc is of the whole file; "" = unknown.
func (s *session) join(ctx context.Context, key, upload string, parts []minio.ObjectPart, crc string) (has sent, err error) {
	opts := minio.PutObjectOptions{}
	list := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		list[i] = minio.CompletePart{PartNumber: p.PartNumber, ETag: p.ETag}
		if s.config.crc {
			list[i].ChecksumCRC32C = p.ChecksumCRC32C
		}
		has.size += p.Size
	}
	if has.crc = crc; crc != "" {
		opts.UserMetadata = map[string]string{"x-amz-checksum-crc32c": crc, "x-amz-checksum-type": "FULL_OBJECT"}
	}
	has.etag = joined(parts)
	got, err := s.core.CompleteMultipartUpload(expect(ctx, slowly), s.config.bucket, key, upload, list, opts)
	if err != nil {
		return has, s.failed(ctx, "CompleteMultipartUpload", key, err)
	}
	if has.crc != "" && got.ChecksumMode == "FULL_OBJECT" && got.ChecksumCRC32C != "" && got.ChecksumCRC32C != has.crc {
		return has, s.said(fault.Corrupt, "CompleteMultipartUpload", key, "the server has CRC32C %s, sent was %s", fault.Shown(got.ChecksumCRC32C), has.crc).Advise(changed)
	}
	has.etag = got.ETag
	return has, nil
}

// joined is the ETag that most servers give a file of parts: the MD5 of those of the
// parts, and how many they are. "" if those are no MD5.
func joined(parts []minio.ObjectPart) string {
	h := md5.New()
	for _, p := range parts {
		b, err := hex.DecodeString(p.ETag)
		if err != nil || len(b) != md5.Size {
			return ""
		}
		_, _ = h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(parts))
}

// settle looks whether what has failed in the middle was done all the same: the answer
// may have been lost, or a repetition have found that there is nothing left to do.
func (s *session) settle(ctx context.Context, key string, has sent, err error) error {
	switch fault.KindOf(err) {
	case fault.Lost, fault.DeadPeer, fault.IO, fault.Stale, fault.Overloaded:
	default:
		return err
	}
	o, headErr := s.head(ctx, key)
	if headErr != nil || o.Size != has.size {
		return err
	}
	switch {
	case has.etag != "" && o.ETag == has.etag, has.crc != "" && o.ChecksumMode == "FULL_OBJECT" && o.ChecksumCRC32C == has.crc:
		return nil
	}
	return err
}

// compare asks what the server has now under the name. Where the user may not ask, or the
// file is gone already, because its receiver takes away at once what has come, the server's
// word at the end was all: the size is not known then.
func (s *session) compare(ctx context.Context, key string, has sent) (plugins.Attr, error) {
	o, err := s.head(ctx, key)
	switch {
	case fault.KindOf(err) == fault.Permission && err != nil:
		return plugins.Attr{Size: -1}, nil
	case fault.KindOf(err) == fault.NotFound && err != nil:
		slog.Warn("the server has confirmed a file, and does not have it any more: nothing could be compared", "file", s.at(key), "bytes", has.size)
		return plugins.Attr{Size: -1}, nil
	case err != nil:
		return plugins.Attr{}, err
	case o.Size != has.size:
		err = s.said(fault.Corrupt, "HeadObject", key, "the server has %d bytes, sent were %d", o.Size, has.size).Advise(changed)
	case has.etag != "" && o.ETag != has.etag:
		err = s.said(fault.Corrupt, "HeadObject", key, "the server has ETag %s, it had confirmed %s: somebody else has written the file, or it is not the same", fault.Shown(o.ETag), fault.Shown(has.etag)).Advise(changed)
	case has.crc != "" && o.ChecksumMode == "FULL_OBJECT" && o.ChecksumCRC32C != "" && o.ChecksumCRC32C != has.crc:
		err = s.said(fault.Corrupt, "HeadObject", key, "the server has CRC32C %s, sent was %s", fault.Shown(o.ChecksumCRC32C), has.crc).Advise(changed)
	}
	if err != nil {
		return plugins.Attr{}, err
	}
	a := plugins.Attr{Size: o.Size, Modified: o.LastModified, Verified: "size"}
	if has.crc != "" && o.ChecksumMode == "FULL_OBJECT" && o.ChecksumCRC32C != "" {
		a.Verified = "crc32c"
	}
	return a, nil
}

var _ io.Writer = (*staged)(nil)
