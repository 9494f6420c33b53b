package s3

import (
	"context"
	"errors"
	"sync"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/semaphore"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

const (
	maxParts = 10_000
	maxSize  = 5 << 40  // bytes of a file
	memory   = 64 << 20 // bytes that a file on its way has in memory, or one part if that is larger
	growth   = 2000     // parts after which those of a file of unknown size double
)

// staged is a file on its way. A file of at most one part is in memory until Commit, which
// sends it; of a larger one parts are sent as they are full, several at a time, and kept
// until the server has them.
type staged struct {
	s      *session
	name   string
	key    string
	size   int64              // that was promised; -1: none
	base   int64              // bytes of a part of it
	offset int64              // where writing began
	sent   int64              // bytes of the file that were written, with those before offset
	before []minio.ObjectPart // that the server had when writing began
	prefix minio.ObjectPart   // those together
	tail   *tail              // at the server, of an earlier Abort
	upload string

	ctx    context.Context // of Write: ends with the caller's, or when a part has failed
	broken context.CancelCauseFunc
	up     context.Context // of requests: ends with the session, or when nobody wants them any more
	end    context.CancelCauseFunc

	room  *semaphore.Weighted // of memory
	lanes chan struct{}       // of requests at a time
	on    sync.WaitGroup      // parts on their way
	cur   *part
	full  []*part // that were given to requests, in order; number len(before)+1 is first

	mu       sync.Mutex // of what is below, and of upload and full where a Checkpoint may look
	err      error      // of the first part that failed
	over     bool       // committed or aborted
	underway bool       // requests were, when it was aborted
	done     bool       // committed
	attr     plugins.Attr
	end1     error // of Commit
	kept     []byte
	gone     error // of Abort
}

// partSize is how large parts are for a file of a size.
func (c *config) partSize(size int64) int64 {
	if size <= c.part*maxParts {
		return c.part
	}
	const mib = 1 << 20
	return (size/maxParts + mib) / mib * mib
}

// most is how large a part is: all are alike if the size is known, which some servers want.
func (t *staged) most(number int) int64 {
	if t.size >= 0 {
		return t.base
	}
	return t.base << ((number - 1) / growth)
}

// Write begins a file, or goes on with one.
func (s *session) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	key, err := s.file(name)
	if err != nil {
		return nil, err
	}
	if w.Size > maxSize {
		return nil, s.said(fault.TooLong, "PutObject", key, "S3 takes files of at most 5 TiB").Advise("cut the file in pieces")
	}
	t := &staged{s: s, name: name, key: key, size: max(w.Size, -1), base: s.config.partSize(w.Size)}
	t.room, t.lanes = semaphore.NewWeighted(memory), make(chan struct{}, s.config.parallel)
	t.ctx, t.broken = context.WithCancelCause(ctx)
	t.up, t.end = context.WithCancelCause(s.over)
	if w.Resume != nil {
		if err := t.resume(ctx, w.Resume); err != nil {
			if t.cur != nil {
				t.cur.release()
			}
			t.broken(err)
			t.end(err)
			return nil, err
		}
	}
	return t, nil
}

// Offset implements plugins.Staged.
func (t *staged) Offset() int64 { return t.offset }

// next is the number of the part that is filled now.
func (t *staged) next() int { return len(t.before) + len(t.full) + 1 }

// begin makes room for the next part.
func (t *staged) begin(ctx context.Context) error {
	number := t.next()
	if number > maxParts {
		return t.s.said(fault.TooLong, "UploadPart", t.key, "S3 takes files of at most %d parts, of which these have %d MiB at last", maxParts, t.most(maxParts)>>20).
			Advise("say the size of the file before, by which larger parts are taken, or raise the option part-size")
	}
	p := newPart(number, t.s.config.secure)
	p.weight = min(t.most(number), memory)
	if t.size >= 0 {
		p.weight = min(p.weight, t.size)
	}
	if err := t.room.Acquire(ctx, p.weight); err != nil {
		return err
	}
	all := t.most(number)
	if t.size >= 0 {
		all = min(all, t.size)
	}
	give, err := room.take(ctx, t.s.config.where, all)
	if err != nil {
		t.room.Release(p.weight)
		return err
	}
	p.give, t.cur = give, p
	return nil
}

// Write implements plugins.Staged. It waits while the memory is full.
func (t *staged) Write(b []byte) (n int, err error) {
	t.mu.Lock()
	over := t.over
	t.mu.Unlock()
	if over {
		return 0, fault.New("s3 write", fault.Stale, "the file was committed or aborted")
	}
	if t.size >= 0 && t.sent+int64(len(b)) > t.size {
		return 0, t.stop(t.s.said(fault.Corrupt, "UploadPart", t.key, "more bytes came than the %d that were announced", t.size))
	}
	for len(b) > 0 {
		if t.cur != nil && t.cur.size == t.most(t.cur.number) {
			if err := t.send(t.ctx); err != nil {
				return n, t.stop(err)
			}
		}
		if t.cur == nil {
			if err := t.begin(t.ctx); err != nil {
				return n, t.stop(err)
			}
		}
		if err := t.ctx.Err(); err != nil {
			return n, t.stop(err)
		}
		k := t.cur.write(b, t.most(t.cur.number))
		n, b, t.sent = n+k, b[k:], t.sent+int64(k)
	}
	return n, nil
}

// stop is the error that a write ends with: the first.
func (t *staged) stop(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	if _, ok := errors.AsType[*fault.Error](err); !ok {
		err = t.s.failed(t.ctx, "UploadPart", t.key, context.Cause(t.ctx))
	}
	t.err = err
	t.broken(err)
	return err
}

// create has the server begin an upload.
func (t *staged) create(ctx context.Context) error {
	return again(ctx, func() error {
		id, err := t.s.core.NewMultipartUpload(ctx, t.s.config.bucket, t.key, minio.PutObjectOptions{UserMetadata: t.s.announced()})
		if err == nil && id == "" {
			return t.s.said(fault.Protocol, "CreateMultipartUpload", t.key, "the server has begun an upload without a name")
		}
		t.mu.Lock()
		t.upload = id
		t.mu.Unlock()
		return t.s.failed(ctx, "CreateMultipartUpload", t.key, err)
	})
}

// announced are the headers by which the checksum of an upload is that of the whole file.
func (s *session) announced() map[string]string {
	if !s.config.crc {
		return nil
	}
	return map[string]string{"x-amz-checksum-algorithm": "CRC32C", "x-amz-checksum-type": "FULL_OBJECT"}
}

// send gives the current part to a request of its own.
func (t *staged) send(ctx context.Context) error {
	if t.upload == "" {
		if err := t.create(ctx); err != nil {
			return err
		}
	}
	p := t.cur
	t.cur = nil
	t.mu.Lock()
	t.full = append(t.full, p)
	t.mu.Unlock()
	t.on.Go(func() {
		t.lanes <- struct{}{}
		err := again(t.up, func() error { return t.put(p) })
		<-t.lanes
		p.release()
		t.room.Release(p.weight)
		if err != nil {
			_ = t.stop(err)
		}
	})
	return nil
}

// put sends a part once.
func (t *staged) put(p *part) error {
	body := p.open()
	defer body.stop()
	opts := minio.PutObjectPartOptions{Sha256Hex: p.digest(), DisableContentSha256: true}
	if t.s.config.crc {
		opts.CustomHeader = map[string][]string{"X-Amz-Checksum-Crc32c": {crcText(p.crc)}}
	}
	got, err := t.s.core.PutObjectPart(t.up, t.s.config.bucket, t.key, t.upload, p.number, body, p.size, opts)
	switch {
	case err != nil:
		return t.s.failed(t.up, "UploadPart", t.key, err)
	case got.ETag == "":
		return t.s.said(fault.Protocol, "UploadPart", t.key, "the server has taken part %d without an ETag", p.number)
	case t.s.config.crc && got.ChecksumCRC32C != "" && got.ChecksumCRC32C != crcText(p.crc):
		return t.s.said(fault.Corrupt, "UploadPart", t.key, "the server has part %d with CRC32C %s, sent was %s", p.number, fault.Shown(got.ChecksumCRC32C), crcText(p.crc)).Advise(changed)
	}
	t.mu.Lock()
	p.etag = got.ETag
	t.mu.Unlock()
	return nil
}

// settled waits until no part is on its way. When ctx ends, they are given up.
func (t *staged) settled(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { t.end(context.Cause(ctx)) })()
	t.on.Wait()
}

// parts are what the server has, from the first on without a gap.
func (t *staged) parts() []minio.ObjectPart {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := append([]minio.ObjectPart(nil), t.before...)
	for _, p := range t.full {
		if p.etag == "" {
			break
		}
		all = append(all, minio.ObjectPart{PartNumber: p.number, ETag: p.etag, Size: p.size, ChecksumCRC32C: crcText(p.crc)})
	}
	return all
}
