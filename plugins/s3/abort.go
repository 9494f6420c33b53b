package s3

import (
	"context"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Abort ends a file without a name. With keep the server keeps the parts that it has, and
// what has come after them under a name of its own, which List does not show.
func (t *staged) Abort(ctx context.Context, keep bool) ([]byte, error) {
	t.mu.Lock()
	if t.done {
		t.mu.Unlock()
		return nil, fault.New("s3 abort", fault.Stale, "the file was committed")
	}
	again := t.over && t.end1 == nil // a Commit that has failed is aborted once
	t.over = true
	t.mu.Unlock()
	if again {
		return t.kept, t.gone
	}
	t.end1 = nil
	if keep {
		t.settled(ctx)
		t.kept, t.gone = t.keep(ctx)
	} else {
		t.underway = len(t.lanes) > 0
		t.end(context.Canceled)
		t.on.Wait()
		t.gone = t.discard(ctx)
	}
	t.end(context.Canceled)
	t.broken(context.Canceled)
	if t.cur != nil {
		t.cur.release()
	}
	return t.kept, t.gone
}

// discard removes what the server has. It may store a part that was under way when its request was given
// up, and the upload with it, after it has given that up: then it is told again, until it knows of none.
func (t *staged) discard(ctx context.Context) error {
	t.removeTail(ctx)
	if t.upload == "" {
		return nil
	}
	known, err := t.s.giveUp(ctx, t.key, t.upload)
	for pause, n := firstPause, 1; t.underway && known && err == nil && n < attempts; n++ {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		pause *= 2
		known, err = t.s.giveUp(ctx, t.key, t.upload)
	}
	return err
}

// abortUpload has the server give an upload up. One that is gone is no error.
func (s *session) abortUpload(ctx context.Context, key, upload string) error {
	_, err := s.giveUp(ctx, key, upload)
	return err
}

// giveUp is abortUpload, and reports whether the server knew the upload.
func (s *session) giveUp(ctx context.Context, key, upload string) (known bool, _ error) {
	err := again(ctx, func() error {
		return s.failed(ctx, "AbortMultipartUpload", key, s.core.AbortMultipartUpload(ctx, s.config.bucket, key, upload))
	})
	switch fault.KindOf(err) {
	case fault.Stale, fault.NotFound:
		return false, nil
	}
	return err == nil, err
}

// removeTail removes what an earlier Abort has kept beside the parts. It fails without a
// word: the file is what counts.
func (t *staged) removeTail(ctx context.Context) {
	if t.tail != nil {
		_ = t.s.delete(ctx, t.tail.key(t.key))
		t.tail = nil
	}
}
