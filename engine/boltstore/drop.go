package boltstore

import (
	"context"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Drop implements store.Store.
func (s *Store) Drop(ctx context.Context, ref store.Ref, before time.Time) (dropped bool, _ error) {
	err := s.wait(ctx, &write{frees: true, do: func(c *change) error {
		dropped = false
		key := refKey(ref)
		r, err := s.latest(c, key)
		switch {
		case fault.KindOf(err) == fault.NotFound:
			return nil
		case err != nil:
			return err
		case r.State != lifecycle.InError || !r.Changed.Before(before):
			return nil
		}
		remove(c, key, &r)
		c.delete(inEvents, key)
		s.cache.forget(key)
		dropped = true
		return nil
	}})
	return dropped && err == nil, err
}
