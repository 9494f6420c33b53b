package audit

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/pannier/pannier/spec/fault"
)

// A checkpoint is a note (golang.org/x/mod/sumdb/note) of these lines:
//
//	pannier audit log
//	NODE
//	SEQ   of the last record
//	HASH  of it
//	TIME
const checkpointTitle = "pannier audit log"

// Checkpoint is how far a log had come.
type Checkpoint struct {
	Node string
	Seq  uint64
	Hash string
	Time time.Time
}

func (c *Checkpoint) text() string {
	return fmt.Sprintf("%s\n%s\n%d\n%s\n%s\n", checkpointTitle, c.Node, c.Seq, c.Hash, c.Time.UTC().Format(time.RFC3339Nano))
}

// readCheckpoint reads a signed one. Corrupt: nobody who has that key has signed it.
func readCheckpoint(msg []byte, key string) (c Checkpoint, err error) {
	const op = "read checkpoint"
	v, err := note.NewVerifier(strings.TrimSpace(key))
	if err != nil {
		return c, fault.New(op, fault.Invalid, "%q is no key of an audit log: %w", key, err)
	}
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return c, fault.New(op, fault.Corrupt, "it is not signed with the log's key: %w", err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 6 || lines[0] != checkpointTitle {
		return c, fault.New(op, fault.Corrupt, "it is signed, and no checkpoint")
	}
	c.Node, c.Hash = lines[1], lines[3]
	c.Seq, err = strconv.ParseUint(lines[2], 10, 64)
	if err == nil {
		c.Time, err = time.Parse(time.RFC3339Nano, lines[4])
	}
	if err != nil {
		return c, fault.New(op, fault.Corrupt, "it is signed, and no checkpoint: %w", err)
	}
	return c, nil
}

// signerOf is the key of a log, made if there is none.
func signerOf(dir, node string) (note.Signer, error) {
	const op = "open key of audit log"
	path := filepath.Join(dir, keyFile)
	key, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		secret, public, err := note.GenerateKey(rand.Reader, "pannier-audit-"+keyName(node))
		if err != nil {
			return nil, fault.Wrap(op, "", err)
		}
		if err := replace(filepath.Join(dir, publicFile), []byte(public+"\n"), 0o644); err != nil {
			return nil, err
		}
		if err := replace(path, []byte(secret+"\n"), 0o600); err != nil {
			return nil, err
		}
		key = []byte(secret)
	} else if err != nil {
		return nil, fault.Wrap(op, path, err)
	}
	s, err := note.NewSigner(string(bytes.TrimSpace(key)))
	if err != nil {
		return nil, fault.New(op, fault.Corrupt, "%s has no key: %w", path, err)
	}
	return s, nil
}

// keyName is a node's name as a note may have it.
func keyName(node string) string {
	return strings.Map(func(r rune) rune {
		if r == '+' || r <= ' ' || r > '~' {
			return '-'
		}
		return r
	}, node)
}

// replace writes a file whole, durably.
func replace(path string, data []byte, mode fs.FileMode) error {
	const op = "write beside audit log"
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return fault.Wrap(op, path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return fault.Wrap(op, path, err)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
