package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// Files of a log's directory. Log files are numbered from 1, and sort by name.
const (
	filePattern    = "audit-*.jsonl"
	fileFormat     = "audit-%08d.jsonl"
	keyFile        = "audit.key"  // the signer's, mode 0600
	publicFile     = "audit.pub"  // the verifier's, for people to keep elsewhere
	checkpointFile = "checkpoint" // the last one
)

// maxLine is the most bytes of a record: five texts, each byte escaped at worst.
const maxLine = 6*5*MaxText + 1024

// filesOf are the log files of a directory, oldest first.
func filesOf(dir string) ([]string, error) {
	all, err := filepath.Glob(filepath.Join(dir, filePattern))
	slices.Sort(all)
	return all, err
}

// at is a line of the log.
type at struct {
	file   string
	line   int   // from 1
	offset int64 // of its first byte
	text   []byte
	whole  bool // a newline ends it
}

// lines yields all lines of the log in order. Memory is bounded by one of them.
func lines(dir string) iter.Seq2[at, error] {
	return func(yield func(at, error) bool) {
		files, err := filesOf(dir)
		if err == nil && len(files) == 0 {
			err = fault.New("read audit log", fault.NotFound, "there is none in %s", dir)
		}
		if err != nil {
			yield(at{}, fault.Wrap("read audit log", dir, err))
			return
		}
		for _, file := range files {
			if !linesOf(file, yield) {
				return
			}
		}
	}
}

func linesOf(file string, yield func(at, error) bool) bool {
	f, err := os.Open(file)
	if err != nil {
		return yield(at{}, fault.Wrap("read audit log", file, err)) && false
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, maxLine)
	offset := int64(0)
	for n := 1; ; n++ {
		text, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(text) == 0:
			return true
		case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull):
			return yield(at{}, fault.Wrap("read audit log", file, err)) && false
		}
		l := at{file: filepath.Base(file), line: n, offset: offset, text: text, whole: err == nil}
		offset += int64(len(text))
		l.text = []byte(strings.TrimSuffix(string(text), "\n"))
		if !yield(l, nil) {
			return false
		}
	}
}

// fileName is the name of the n-th file.
func fileName(n int) string { return fmt.Sprintf(fileFormat, n) }

// numberOf is the number of a log file; 0: it has none.
func numberOf(file string) (n int) {
	_, _ = fmt.Sscanf(filepath.Base(file), fileFormat, &n)
	return n
}

// Files are the names of a log's files in the order in which they are to be copied while the log is
// written: what is signed before what comes after it. The signer's key is among them only if it
// is asked for.
func Files(dir string, withKey bool) (names []string, err error) {
	logs, err := filesOf(dir)
	if err != nil {
		return nil, fault.Wrap("list audit log", dir, err)
	}
	names = []string{publicFile, checkpointFile}
	if withKey {
		names = append(names, keyFile)
	}
	for _, path := range logs {
		names = append(names, filepath.Base(path))
	}
	return names, nil
}
