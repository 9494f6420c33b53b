package s3

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crcText is a CRC32C as headers have it.
func crcText(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// reader is a file that is being read.
type reader struct {
	s    *session
	ctx  context.Context
	key  string
	body io.ReadCloser // nil: there is nothing to read
	left int64         // bytes that have to come
	sum  hash.Hash32   // nil: the server does not say, or not of these bytes
	want string        // CRC32C that the server says
	eof  bool
	err  error // of Read
	once bool
	end  error // of Close
}

// Read asks for the size and ETag first, and then for the bytes of that version only.
func (s *session) Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	key, err := s.file(name)
	if err != nil {
		return nil, err
	}
	o, err := s.head(ctx, key)
	if err != nil {
		return nil, err
	}
	if offset < 0 || offset > o.Size {
		return nil, s.said(fault.Invalid, "GetObject", key, "there is no offset %d: the file has %d bytes", offset, o.Size).Advise("read from 0 to %d", o.Size)
	}
	r := &reader{s: s, ctx: ctx, key: key, left: o.Size - offset}
	if r.left == 0 {
		r.eof = true
		return r, nil
	}
	var opts minio.GetObjectOptions
	if o.ETag != "" {
		if err := opts.SetMatchETag(o.ETag); err != nil {
			return nil, s.failed(ctx, "GetObject", key, err)
		}
	}
	if offset > 0 {
		if err := opts.SetRange(offset, 0); err != nil {
			return nil, s.failed(ctx, "GetObject", key, err)
		}
	} else if o.ChecksumCRC32C != "" && o.ChecksumMode == "FULL_OBJECT" {
		r.sum, r.want = crc32.New(castagnoli), o.ChecksumCRC32C
	}
	err = again(ctx, func() (err error) {
		var got minio.ObjectInfo
		body, got, header, err := s.core.GetObject(expect(ctx, asFile), s.config.bucket, key, opts)
		if err != nil {
			return s.failed(ctx, "GetObject", key, err)
		}
		r.body = body
		ranged, wanted := header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", offset, o.Size-1, o.Size)
		switch {
		case got.ETag != o.ETag:
			err = s.said(fault.SourceChanged, "GetObject", key, "the server sends ETag %s, asked for %s", fault.Shown(got.ETag), fault.Shown(o.ETag)).Advise("read again, from the beginning")
		case offset > 0 && ranged != wanted:
			err = s.said(fault.Protocol, "GetObject", key, "the server sends %s, asked for %s", fault.Shown(strings.TrimSpace("range "+ranged)), fault.Shown(wanted))
		case got.Size >= 0 && got.Size != r.left:
			err = s.said(fault.Corrupt, "GetObject", key, "the server sends %d bytes, it has said that there are %d", got.Size, r.left).Advise("read again; if it happens again, the server cuts files off")
		}
		if err != nil {
			_ = body.Close()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (r *reader) Read(p []byte) (int, error) {
	if r.eof {
		return 0, io.EOF
	}
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	n, err := r.body.Read(p)
	if int64(n) > r.left {
		r.err = r.s.said(fault.Corrupt, "GetObject", r.key, "the server sends more bytes than it has said that there are")
		return 0, r.err
	}
	r.left -= int64(n)
	if r.sum != nil {
		_, _ = r.sum.Write(p[:n])
	}
	switch {
	case err == io.EOF:
		r.eof = true
	case err != nil:
		r.err = r.s.failed(r.ctx, "GetObject", r.key, err)
		err = r.err
	}
	return n, err
}

// Close says whether these were all bytes of the file.
func (r *reader) Close() error {
	if r.once {
		return r.end
	}
	r.once = true
	if !r.eof && r.err == nil && r.left == 0 { // the caller knows the size, and has not asked for the end
		_, _ = r.Read(make([]byte, 1))
	}
	if r.body != nil {
		_ = r.body.Close()
	}
	switch {
	case r.err != nil:
		r.end = r.err
	case !r.eof:
		r.end = &fault.Error{Op: "s3 GetObject", Kind: fault.Canceled, Subject: r.s.at(r.key), Err: fault.New("close", fault.Canceled, "not all of the file was read")}
	case r.left > 0:
		r.end = r.s.said(fault.Corrupt, "GetObject", r.key, "the server has ended it %d bytes before the end", r.left).Advise("read again; if it happens again, the server cuts files off")
	case r.sum != nil && crcText(r.sum.Sum32()) != r.want:
		r.end = r.s.said(fault.Corrupt, "GetObject", r.key, "the CRC32C of what came is %s, the server says %s", crcText(r.sum.Sum32()), fault.Shown(r.want)).Advise("read again; if it happens again, the server's disk or the way here changes bytes")
	}
	return r.end
}

var _ plugins.Lister = (*session)(nil)
