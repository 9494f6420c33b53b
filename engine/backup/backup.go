// Package backup is the file that holds all that a node remembers: a zip archive, which any
// unzip reads, with a manifest as its last entry, so that one that breaks off has none.
package backup

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

const (
	manifestName = "manifest.json"
	format       = 1 // of the manifest, raised when an older version could not restore it
	mostManifest = 16 << 20
)

// Manifest says what is in a backup. It is what Files name, and nothing else.
type Manifest struct {
	Format  int       `json:"format"`
	Node    string    `json:"node"`
	Key     string    `json:"key"` // the node's, as pannier id prints it; in the backup only if there is an identity
	Version string    `json:"version"`
	Begun   time.Time `json:"begun"`
	Files   []File    `json:"files"`
}

// File is one of the files of a state directory.
type File struct {
	Name   string `json:"name"` // in the state directory, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Has reports whether a file of that name is in the backup.
func (m *Manifest) Has(name string) bool {
	for _, f := range m.Files {
		if f.Name == name {
			return true
		}
	}
	return false
}

// Bytes are those of all files.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// Writer writes a backup. It is whole when Close has returned nil.
type Writer struct {
	zip  *zip.Writer
	says Manifest
}

// NewWriter begins a backup. Of m, format and files are the writer's.
func NewWriter(w io.Writer, m Manifest) *Writer {
	m.Format, m.Files = format, nil
	return &Writer{zip.NewWriter(w), m}
}

// Add adds a file, whose content write writes.
func (w *Writer) Add(name string, write func(io.Writer) error) error {
	const op = "write backup"
	if err := checkName(name); err != nil {
		return fault.Wrap(op, "", err)
	}
	to, err := w.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: w.says.Begun})
	if err != nil {
		return fault.Wrap(op, name, err)
	}
	sum := &summed{to: to, sum: sha256.New()}
	if err := write(sum); err != nil {
		return fault.Wrap(op, name, err)
	}
	w.says.Files = append(w.says.Files, File{name, sum.n, hex.EncodeToString(sum.sum.Sum(nil))})
	return nil
}

// Close ends the backup.
func (w *Writer) Close() error {
	const op = "write backup"
	to, err := w.zip.CreateHeader(&zip.FileHeader{Name: manifestName, Method: zip.Deflate, Modified: w.says.Begun})
	if err == nil {
		e := json.NewEncoder(to)
		e.SetIndent("", "  ")
		err = e.Encode(w.says)
	}
	if err == nil {
		err = w.zip.Close()
	}
	return fault.Wrap(op, "", err)
}

// summed counts and digests what is written.
type summed struct {
	to  io.Writer
	sum hash.Hash
	n   int64
}

func (s *summed) Write(p []byte) (int, error) {
	n, err := s.to.Write(p)
	s.sum.Write(p[:n]) // cannot fail
	s.n += int64(n)
	return n, err
}
