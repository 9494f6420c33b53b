package s3

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// copyPart is how many bytes a server copies at a time: it may be silent until they are
// copied, so they have to be few enough for the option timeout.
const copyPart = 512 << 20

// Copy has the server copy to another name, also in another bucket. Requests are signed
// with the keys of the destination, which have to be allowed to read the source.
func (s *session) Copy(ctx context.Context, name string, to plugins.Session, toName string, r plugins.CopyRequest) (plugins.CopyResult, error) {
	key, err := s.file(name)
	if err != nil {
		return plugins.CopyResult{}, err
	}
	d, ok := to.(*session)
	if !ok {
		return plugins.CopyResult{}, s.said(fault.Unsupported, "CopyObject", key, "the other end is no endpoint of S3")
	}
	target, err := d.file(toName)
	if err != nil {
		return plugins.CopyResult{}, err
	}
	if d.config.where != s.config.where {
		return plugins.CopyResult{}, s.said(fault.Unsupported, "CopyObject", key, "it is at %s, and a server of S3 takes nothing from another one as %s", s.config.where, d.config.where).
			Advise("read the file here and write it there")
	}
	if s.config.bucket == d.config.bucket && key == target {
		return plugins.CopyResult{}, s.said(fault.Invalid, "CopyObject", key, "it is the same file")
	}
	c := copying{from: s, to: d, key: key, target: target, progress: r.Progress}
	return c.run(ctx, r)
}

// copying is one copy.
type copying struct {
	from, to    *session
	key, target string
	progress    func(int64, []byte) // may be nil
	moves       bool                // the source is removed afterwards
	source      minio.ObjectInfo
	upload      string // of parts
	part        int64
	bare        bool // without checksums
}

// run copies, and compares what the server says of both.
func (c *copying) run(ctx context.Context, r plugins.CopyRequest) (result plugins.CopyResult, err error) {
	var k *token
	if r.Resume != nil {
		t, err := parseToken(r.Resume)
		if err != nil {
			return result, err
		}
		k = &t
	}
	if c.source, err = c.from.head(ctx, c.key); err != nil {
		return result, err
	}
	if c.source.ETag == "" {
		return result, c.from.said(fault.Protocol, "HeadObject", c.key, "the server gives it no ETag, by which it would be the same until the end")
	}
	if c.source.Size > c.to.config.copyPart {
		result, err = c.inParts(ctx, k)
	} else {
		result, err = c.atOnce(ctx)
	}
	if err != nil {
		return result, err
	}
	if result.Verified, err = c.compare(ctx); err != nil {
		return plugins.CopyResult{Bytes: result.Bytes}, err
	}
	if c.progress != nil {
		c.progress(result.Bytes, nil)
	}
	return result, nil
}

// atOnce is a copy by one request. The server's answer may begin before it is done, and be
// an error in spite of its status.
func (c *copying) atOnce(ctx context.Context) (plugins.CopyResult, error) {
	err := again(ctx, func() error {
		got, err := c.to.core.CopyObject(expect(ctx, slowly), c.from.config.bucket, c.key, c.to.config.bucket, c.target, c.unchanged(), minio.CopySrcOptions{}, minio.PutObjectOptions{})
		if err == nil && got.ETag == "" {
			return c.to.said(fault.Protocol, "CopyObject", c.target, "the server's answer does not say that it has copied")
		}
		return c.refused(c.to.failed(ctx, "CopyObject", c.target, err))
	})
	if err != nil {
		return plugins.CopyResult{}, err
	}
	return plugins.CopyResult{Bytes: c.source.Size}, nil
}

// unchanged are the headers by which a source that was replaced meanwhile is not copied.
func (c *copying) unchanged() map[string]string {
	return map[string]string{"x-amz-copy-source-if-match": `"` + c.source.ETag + `"`}
}

// refused adds to an error of the copy who has to be allowed what.
func (c *copying) refused(err error) error {
	if e, ok := err.(*fault.Error); ok && e.Kind == fault.Permission {
		e.Advice = fmt.Sprintf("let the user of the destination read %s and write there: a copy is one request, signed with the keys of the destination", c.from.at(c.key))
	}
	return err
}

// compare asks the server for what it has of both. Where nobody may ask, or the copy was taken away
// already by its receiver, the server's word was all, which is too little if the source is to go.
func (c *copying) compare(ctx context.Context) (string, error) {
	d, err := c.to.head(ctx, c.target)
	switch kind := fault.KindOf(err); {
	case err != nil && !c.moves && (kind == fault.NotFound || kind == fault.Permission):
		slog.Warn("the server has confirmed a copy, and does not show it: nothing could be compared", "file", c.to.at(c.target), "bytes", c.source.Size, "error", err)
		return "", nil
	case err != nil:
		return "", err
	}
	differ := func(what, here, there string) error {
		return c.to.said(fault.Corrupt, "HeadObject", c.target, "the copy has %s %s, the source has %s", what, fault.Shown(there), fault.Shown(here)).Advise(changed)
	}
	s := c.source
	if d.Size != s.Size {
		return "", differ("size", fmt.Sprint(s.Size), fmt.Sprint(d.Size))
	}
	if s.ChecksumMode == "FULL_OBJECT" && d.ChecksumMode == "FULL_OBJECT" {
		for _, sum := range []struct{ name, here, there string }{
			{"sha256", s.ChecksumSHA256, d.ChecksumSHA256}, {"sha1", s.ChecksumSHA1, d.ChecksumSHA1}, {"crc64nvme", s.ChecksumCRC64NVME, d.ChecksumCRC64NVME},
			{"crc32c", s.ChecksumCRC32C, d.ChecksumCRC32C}, {"crc32", s.ChecksumCRC32, d.ChecksumCRC32},
		} {
			if sum.here != "" && sum.there != "" {
				if sum.here != sum.there {
					return "", differ(sum.name, sum.here, sum.there)
				}
				return sum.name, nil
			}
		}
	}
	if s.ETag == d.ETag && !strings.Contains(s.ETag, "-") && len(s.ETag) == 32 {
		return "etag", nil // most servers' is the MD5; one that differs may have another reason
	}
	return "size", nil
}

// giveUp removes the unfinished copy.
func (c *copying) giveUp(ctx context.Context) {
	if c.upload != "" {
		_ = c.to.abortUpload(context.WithoutCancel(ctx), c.target, c.upload)
	}
}
