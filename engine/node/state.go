package node

import (
	"os"
	"path/filepath"

	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// storeFile is the store in the state directory.
const storeFile = "store.db"

// arrivalsFile is the engine's Arrivals there.
const arrivalsFile = "arrivals.json"

// uploadsFile is what foreign clients have begun to upload, and may go on with.
const uploadsFile = "uploads.json"

// namingsFile is which of their files are given their names just now.
const namingsFile = "namings.json"

// StorePath is the store in a state directory.
func StorePath(state string) string { return filepath.Join(state, storeFile) }

// Identity is the key of the node with that configuration; it is made, with the
// state directory, if there is none. Permission: others may write the directory
// or read the key.
func Identity(cfg *config.Config) (*carrier.Identity, error) {
	const op = "open state directory"
	dir := cfg.Node.State
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Wrap(op, dir, err)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return nil, fault.Wrap(op, dir, err)
	}
	if mode := fi.Mode().Perm(); mode&0o022 != 0 {
		return nil, fault.New(op, fault.Permission, "others may write %s, which has mode %04o: chmod 0700 it, or, where it is not the node's (a volume that is mounted there), set node.state to a directory below it, which the node makes", dir, mode)
	}
	return carrier.LoadOrCreateIdentity(dir)
}

// store opens the store, which no other process has open.
func (n *Node) store() (store.Store, error) {
	if n.o.Store != nil {
		return n.o.Store, nil
	}
	s, err := boltstore.Open(boltstore.Config{Path: StorePath(n.fixed.State)})
	if err != nil {
		return nil, err
	}
	n.undone(s.Close)
	n.o.Store = s
	return s, nil
}
