package pack

import (
	"bytes"
	"context"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// One file that is compressed.

const (
	gzipFormat = "gzip"
	zstdFormat = "zstd"

	mostWindow = 128 << 20 // bytes of zstd's memory of what it has decoded
)

var extensions = map[string]string{gzipFormat: ".gz", zstdFormat: ".zst"}

// compressTask makes a compressed file of the request's.
type compressTask struct {
	task.Product
	format string
}

func newCompress(t *task.Table) (task.Task, error) {
	c := compressTask{format: t.Format}
	if c.format == "" {
		c.format = zstdFormat
		if strings.HasSuffix(t.To, extensions[gzipFormat]) {
			c.format = gzipFormat
		}
	}
	if extensions[c.format] == "" {
		return nil, invalid("format is %q: write gzip or zstd", t.Format)
	}
	var err error
	c.Product, err = task.NewProduct(t, "{path}"+extensions[c.format])
	return c, err
}

// Run implements task.Task.
func (c compressTask) Run(ctx context.Context, on *task.On) (task.Result, error) {
	return c.Make(ctx, on, "", func(w io.Writer, src *os.File) error {
		z, err := compressor(c.format, w)
		if err != nil {
			return err
		}
		if _, err := io.Copy(z, src); err != nil {
			return err
		}
		return z.Close()
	})
}

// compressor compresses what is written to it, in the caller's goroutine.
func compressor(format string, w io.Writer) (io.WriteCloser, error) {
	if format == gzipFormat {
		return gzip.NewWriter(w), nil
	}
	return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
}

// decompressTask makes of a compressed file what it was.
type decompressTask struct {
	task.Product
	format string // "": as the file begins
	bounds bounds
}

func newDecompress(t *task.Table) (task.Task, error) {
	if t.Format != "" && extensions[t.Format] == "" {
		return nil, invalid("format is %q: write gzip or zstd, or nothing, and the file tells", t.Format)
	}
	b, err := newBounds(t)
	if err != nil {
		return nil, err
	}
	p, err := task.NewProduct(t, "")
	return decompressTask{p, t.Format, b}, err
}

// Run implements task.Task.
func (d decompressTask) Run(ctx context.Context, on *task.On) (task.Result, error) {
	name := on.File.String()
	switch path.Ext(name) {
	case ".gz", ".zst", ".zstd":
		name = strings.TrimSuffix(name, path.Ext(name))
	default:
		name += ".out"
	}
	return d.Make(ctx, on, name, func(w io.Writer, src *os.File) error {
		fi, err := src.Stat()
		if err != nil {
			return err
		}
		r, err := decompressor(d.format, src)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(d.bounds.of(fi.Size()).writer(w), onlyReader{r})
		return corrupt(err)
	})
}

// onlyReader hides WriterTo, with which a decoder would write more than asked for at once.
type onlyReader struct{ io.Reader }

// decompressor reads what is in a compressed file. It has an error for one that is cut.
func decompressor(format string, src *os.File) (io.ReadCloser, error) {
	if format == "" {
		var err error
		if format, err = formatOf(src); err != nil {
			return nil, err
		}
	}
	switch format {
	case gzipFormat:
		z, err := gzip.NewReader(src)
		return z, corrupt(err)
	case zstdFormat:
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(mostWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, corrupt(err)
		}
		return z.IOReadCloser(), nil
	}
	return nil, fault.New("decompress", fault.Invalid, "the file is compressed neither with gzip nor with zstd")
}

// formatOf is how a file is compressed, by its first bytes; "": not at all.
func formatOf(f *os.File) (string, error) {
	var head [4]byte
	n, err := f.ReadAt(head[:], 0)
	switch {
	case err != nil && err != io.EOF:
		return "", err
	case bytes.HasPrefix(head[:n], []byte{0x1f, 0x8b}):
		return gzipFormat, nil
	case n == 4 && (bytes.Equal(head[:], []byte{0x28, 0xb5, 0x2f, 0xfd}) || head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], []byte{0x2a, 0x4d, 0x18})):
		return zstdFormat, nil
	}
	return "", nil
}

// corrupt makes Corrupt of what a decoder says, and leaves what is known.
func corrupt(err error) error {
	if err == nil {
		return nil
	}
	if kind := fault.KindOf(err); kind != fault.Internal {
		return err
	}
	return fault.New("unpack", fault.Corrupt, "%w", err)
}
