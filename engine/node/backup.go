package node

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pannier/pannier/engine/audit"
	"github.com/pannier/pannier/engine/backup"
	"github.com/pannier/pannier/engine/objects"
	"github.com/pannier/pannier/spec/fault"
)

// part is a file of the state directory that a backup has.
type part struct {
	name  string
	write func(io.Writer) error
}

// backup writes all that the node remembers, while it works. What folders and schedules note comes before the store: they
// note that a request is registered when the store has it, and what is not noted they register again, by the same id. What
// bridges note comes after it: they note what they are about to do before the store has it. So after a restore each looks as
// after a crash in between, which they know what to do about.
func (n *Node) backup(store func(io.Writer) error, w io.Writer, withKey bool) error {
	b := backup.NewWriter(w, backup.Manifest{Node: n.fixed.Name, Key: n.key, Version: n.o.Version, Begun: time.Now().UTC().Truncate(time.Second)})
	var parts, after []part
	for _, p := range n.notes {
		if p.name == bridgeFile {
			after = append(after, p)
		} else {
			parts = append(parts, p)
		}
	}
	parts = append(append(parts, part{storeFile, store}), after...)
	names := []string{objects.File, tokensFile, pushFile}
	if withKey {
		names = append(names, backup.Identity, certificateFile)
	}
	trail, err := audit.Files(AuditDir(n.fixed.State), withKey)
	if err != nil {
		return err
	}
	for _, name := range trail {
		names = append(names, auditName+"/"+name)
	}
	for _, name := range names {
		f, err := os.Open(filepath.Join(n.fixed.State, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fault.Wrap("back up", name, err)
		}
		defer f.Close()
		parts = append(parts, part{name, func(w io.Writer) error {
			_, err := io.Copy(w, f)
			return err
		}})
	}
	for _, p := range parts {
		if err := b.Add(p.name, p.write); err != nil {
			return err
		}
	}
	return b.Close()
}
