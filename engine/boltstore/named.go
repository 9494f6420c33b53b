package boltstore

import (
	"bytes"
	"context"
	"encoding/hex"
	"strings"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Named implements store.Store. Keys of one requester and role are sorted by id: it looks
// at the places of the id, one for each of them, and at nothing in between.
func (s *Store) Named(_ context.Context, n store.Name, most int) (found []store.Ref, err error) {
	least, err := hex.DecodeString((n.Digits + strings.Repeat("0", 2*len(lifecycle.ID{})))[:2*len(lifecycle.ID{})])
	if err != nil {
		return nil, fault.New("find request", fault.Invalid, "%.40q are no hexadecimal digits", n.Digits)
	}
	err = s.view(func(now view) error {
		for _, bucket := range []int{inActive, inDone} {
			for head := now.head(bucket, nil); head != nil && len(found) < most; head = now.head(bucket, append(head, above...)) {
				ref := store.Ref{Key: lifecycle.Key{Requester: string(head[2:])}, Role: lifecycle.Role(head[0])}
				if n.Requester != "" && n.Requester != ref.Key.Requester || n.Role != 0 && n.Role != ref.Role {
					continue
				}
				for k := range now.up(bucket, append(bytes.Clone(head), least...)) {
					id, ok := bytes.CutPrefix(k, head)
					if !ok || len(found) == most || !strings.HasPrefix(hex.EncodeToString(id), n.Digits) {
						break
					}
					copy(ref.Key.ID[:], id)
					found = append(found, ref)
				}
			}
		}
		return nil
	})
	return found, err
}

// above is behind every id.
var above = bytes.Repeat([]byte{0xff}, len(lifecycle.ID{})+1)

// head is what the first key from a place on has before the id: role and requester. nil: there is none.
func (v view) head(bucket int, from []byte) []byte {
	for k := range v.up(bucket, from) {
		if n := len(k) - len(lifecycle.ID{}); n >= 2 && n == 2+int(k[1]) {
			return bytes.Clone(k[:n])
		}
	}
	return nil
}
