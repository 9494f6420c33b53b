package boltstore

import (
	"context"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Drop implements store.Store.
func (s *Store) Drop(ctx context.Context, ref store.Ref, before time.Time) (dropped bool, _ error) {
	err := s.write(ctx, func(tx *bbolt.Tx) error {
		dropped = false
		key := refKey(ref)
		r, err := s.latest(tx, key)
		switch {
		case fault.KindOf(err) == fault.NotFound:
			return nil
		case err != nil:
			return err
		case r.State != lifecycle.InError || !r.Changed.Before(before):
			return nil
		}
		if err := remove(tx, key, &r); err != nil {
			return kept(err)
		}
		dropped = true
		return kept(tx.Bucket(eventsBucket).Delete(key))
	})
	return dropped && err == nil, err
}
