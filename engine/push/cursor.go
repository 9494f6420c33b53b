package push

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// cursor is how far a node has come, as it is kept. What finished at Time or before has been
// taken, but for what Margin allows for.
type cursor struct {
	Time     time.Time `json:"time"`
	Reserved uint64    `json:"seq"` // no record has been sent with a higher seq
}

// margin is by how much later records may be committed than their time says, and how much is
// sent again after a restart.
const margin = 5 * time.Second

// loadCursor reads one. Without a file it is at now: what had finished before is history.
func loadCursor(path string, now time.Time) (c cursor, err error) {
	const op = "read push cursor"
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		c.Time = now
		return c, c.save(path)
	}
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return c, fault.New(op, fault.Corrupt, "%s: %w", path, err).Advise("remove it, and what finishes from now on is pushed")
	}
	return c, nil
}

// save keeps it, durably.
func (c *cursor) save(path string) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fault.Wrap("write push cursor", path, err)
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.Wrap("write push cursor", path, err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		var d *os.File
		if d, err = os.Open(filepath.Dir(path)); err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
	}
	return fault.Wrap("write push cursor", path, err)
}
