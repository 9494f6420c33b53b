package task

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/shellword"
)

// Settings that are in files of this host: secrets never stand in a configuration.

const (
	filePrefix = "file:"
	mostFile   = 1 << 20 // bytes
)

// FileOf is the whole path in a setting "file:/PATH"; "" when it is not set.
func FileOf(key, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	path, ok := strings.CutPrefix(text, filePrefix)
	if !ok || !filepath.IsAbs(path) {
		return "", invalid("%s is in a file, which is named by its whole path: write %s = \"file:/etc/pannier/%s\"", key, key, key)
	}
	return path, nil
}

// ReadFile reads such a file, at most 1 MiB of it.
func ReadFile(path string) ([]byte, error) { return readFile(path, false) }

// ReadSecret is ReadFile of what nobody else may read: Permission if others can.
func ReadSecret(path string) ([]byte, error) { return readFile(path, true) }

func readFile(path string, secret bool) ([]byte, error) {
	const op = "read file"
	f, err := os.OpenFile(path, os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, fault.Wrap(op, path, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return nil, fault.Wrap(op, path, err)
	case !fi.Mode().IsRegular():
		return nil, &fault.Error{Op: op, Kind: fault.Invalid, Subject: path, Err: errors.New("it is not a regular file")}
	case secret && fi.Mode()&0o077 != 0:
		return nil, &fault.Error{Op: op, Kind: fault.Permission, Subject: path, Err: errors.New("others can read it, or its group can"), Advice: "make it the node's user's alone: say " + shellword.Line("chmod", "600", path) + ", and chown it to that user if it is not"}
	}
	b, err := io.ReadAll(io.LimitReader(f, mostFile+1))
	if len(b) > mostFile {
		err = fault.New(op, fault.TooLong, "it has more than %d bytes", mostFile)
	}
	return b, fault.Wrap(op, path, err)
}
