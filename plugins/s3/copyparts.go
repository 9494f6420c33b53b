package s3

import (
	"context"
	"maps"
	"sync"

	"github.com/minio/minio-go/v7"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// inParts is a copy by a request for each part. Those that the server has already are not
// copied again.
func (c *copying) inParts(ctx context.Context, k *token) (plugins.CopyResult, error) {
	c.part = max(c.to.config.copyPart, (c.source.Size+maxParts-1)/maxParts)
	count := int((c.source.Size + c.part - 1) / c.part)
	have := map[int]minio.ObjectPart{}
	var had int64 // bytes that an earlier copy has left
	if k != nil && k.Upload != "" {
		all, err := c.to.have(ctx, c.target, k.Upload)
		same := k.ETag == c.source.ETag && k.Size == c.source.Size && k.Base == c.part
		switch {
		case err == nil && same:
			c.upload, c.bare, have = k.Upload, k.Bare, all
			for _, p := range all {
				had += p.Size
			}
		case err == nil:
			_ = c.to.abortUpload(ctx, c.target, k.Upload)
		case fault.KindOf(err) != fault.Stale && fault.KindOf(err) != fault.NotFound:
			return plugins.CopyResult{Resume: mustToken(*k)}, err
		}
	}
	if c.upload == "" {
		p, err := c.first(ctx)
		if err != nil {
			c.giveUp(ctx)
			return plugins.CopyResult{}, c.refused(err)
		}
		have[1] = p
	}
	resume := mustToken(token{Upload: c.upload, Base: c.part, ETag: c.source.ETag, Size: c.source.Size, Bare: c.bare})
	if c.progress != nil {
		c.progress(had, resume)
	}
	parts := make([]minio.ObjectPart, count)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var on sync.WaitGroup
	var mu sync.Mutex
	var done int64
	lanes := make(chan struct{}, c.to.config.parallel)
	for i := range parts {
		number, offset := i+1, int64(i)*c.part
		length := min(c.part, c.source.Size-offset)
		if p, ok := have[number]; ok && p.Size == length {
			parts[i] = p
			mu.Lock()
			done += length
			mu.Unlock()
			continue
		}
		on.Go(func() {
			lanes <- struct{}{}
			defer func() { <-lanes }()
			p, err := c.one(ctx, number, offset, length)
			if err != nil {
				stop(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			parts[i] = p
			if done += length; c.progress != nil && done < c.source.Size {
				c.progress(done, nil)
			}
		})
	}
	on.Wait()
	result := plugins.CopyResult{Bytes: done, Resume: resume}
	if err := context.Cause(ctx); err != nil {
		return result, c.refused(c.to.failed(ctx, "UploadPartCopy", c.target, err))
	}
	has, err := c.to.join(ctx, c.target, c.upload, parts, c.crc(parts))
	if err != nil {
		if err = c.to.settle(ctx, c.target, has, err); err != nil {
			return result, err
		}
	}
	return plugins.CopyResult{Bytes: c.source.Size}, nil
}

// first begins the upload and copies a part. A server that says of the part what it knows
// of the whole (versitygw 1.8 does) would keep a wrong checksum: there it is done without.
func (c *copying) first(ctx context.Context) (minio.ObjectPart, error) {
	for {
		if err := c.create(ctx); err != nil {
			return minio.ObjectPart{}, err
		}
		p, err := c.one(ctx, 1, 0, c.part)
		if err != nil || c.bare || p.ChecksumCRC32C == "" || p.ChecksumCRC32C != c.source.ChecksumCRC32C {
			return p, err
		}
		c.giveUp(ctx)
		c.bare = true
	}
}

func mustToken(k token) []byte {
	b, err := k.bytes()
	if err != nil {
		return nil // from the beginning, then
	}
	return b
}

// crc is the CRC32C of the source, if the server says it of all parts, which then have to
// make up the whole.
func (c *copying) crc(parts []minio.ObjectPart) string {
	if !c.to.config.crc || c.bare {
		return ""
	}
	if c.source.ChecksumMode == "FULL_OBJECT" && c.source.ChecksumCRC32C != "" {
		return c.source.ChecksumCRC32C
	}
	return merged(parts)
}

// create begins an upload that has what the source says of itself.
func (c *copying) create(ctx context.Context) error {
	opts := minio.PutObjectOptions{
		ContentType: c.source.ContentType, ContentEncoding: c.source.ContentEncoding, UserMetadata: map[string]string{},
		CacheControl: c.source.Headers.Get("Cache-Control"), ContentDisposition: c.source.Headers.Get("Content-Disposition"), ContentLanguage: c.source.Headers.Get("Content-Language"),
	}
	maps.Copy(opts.UserMetadata, c.source.UserMetadata)
	if !c.bare {
		maps.Copy(opts.UserMetadata, c.to.announced())
	}
	return again(ctx, func() error {
		id, err := c.to.core.NewMultipartUpload(ctx, c.to.config.bucket, c.target, opts)
		if err == nil && id == "" {
			return c.to.said(fault.Protocol, "CreateMultipartUpload", c.target, "the server has begun an upload without a name")
		}
		c.upload = id
		return c.refused(c.to.failed(ctx, "CreateMultipartUpload", c.target, err))
	})
}

// one copies a part.
func (c *copying) one(ctx context.Context, number int, offset, length int64) (minio.ObjectPart, error) {
	p := minio.ObjectPart{PartNumber: number, Size: length}
	err := again(ctx, func() error {
		got, err := c.to.core.CopyObjectPart(expect(ctx, slowly), c.from.config.bucket, c.key, c.to.config.bucket, c.target, c.upload, number, offset, length, c.unchanged())
		if err == nil && got.ETag == "" {
			return c.to.said(fault.Protocol, "UploadPartCopy", c.target, "the server's answer does not say that it has copied part %d", number)
		}
		p.ETag, p.ChecksumCRC32C = unquoted(got.ETag), got.ChecksumCRC32C
		return c.to.failed(ctx, "UploadPartCopy", c.target, err)
	})
	return p, err
}

// have are the parts of an upload that the server has, by number.
func (s *session) have(ctx context.Context, key, upload string) (map[int]minio.ObjectPart, error) {
	all, marker := map[int]minio.ObjectPart{}, 0
	for {
		page, err := s.core.ListObjectParts(ctx, s.config.bucket, key, upload, marker, 1000)
		if err != nil {
			return nil, s.failed(ctx, "ListParts", key, err)
		}
		for _, p := range page.ObjectParts {
			p.ETag = unquoted(p.ETag)
			all[p.PartNumber] = p
		}
		if !page.IsTruncated {
			return all, nil
		}
		if page.NextPartNumberMarker <= marker || page.NextPartNumberMarker > maxParts {
			return nil, s.said(fault.Protocol, "ListParts", key, "the server goes on where it has gone on before: the listing would never end")
		}
		marker = page.NextPartNumberMarker
	}
}
