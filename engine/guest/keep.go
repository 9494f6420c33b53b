package guest

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// What an upload leaves that has broken off: its partial file beside the name, up to the last
// whole block, which only the same user at the same listener goes on with.

const (
	// keptBlock is what is kept a multiple of, bytes.
	keptBlock = 256 << 10
	// resumeTime is how long who goes on waits for the earlier upload to be given up.
	resumeTime = 2 * time.Second
)

// keeping is the part of an upload that is about going on with it. Bytes come to the disk in
// whole blocks.
//
//	kept <= tried <= stored <= n; stored is a multiple of keptBlock until Commit
type keeping struct {
	sink   sideeffect.Keeper
	block  []byte // what is not a block yet
	stored int64
	kept   int64 // what the state beside the file says
	tried  int64 // what it was to say last
	root   [sideeffect.RootSize]byte
	ahead  *syncing // nil: none
	note   remain   // in the node's remains
	noted  bool     // it is
	fresh  bool     // it is of this upload
}

// syncing is a sync beside the writing.
type syncing struct {
	point  sideeffect.ResumePoint
	ready  <-chan struct{}
	finish func() (int64, error)
}

// remain is what the node notes of this upload.
func (u *upload) remain() remain {
	return remain{Root: u.rule.Root, Name: u.path.String(), Key: u.key}
}

// open opens the sink: anew, or where an earlier upload has ended.
func (u *upload) open(d *sideeffect.Descriptor, size int64, resume bool) error {
	d.Resume, d.ResumeKey = u.s.node.Remains != nil, u.key
	if !u.marked { // it is asked for its size, too, which has to be quick
		d.Params.ResumeCheck = sideeffect.CheckLast
	}
	var from sideeffect.ResumePoint
	if resume {
		var err error
		if from, err = u.left(d); err != nil && (!u.marked || fault.KindOf(err) != fault.NotFound) {
			return err
		}
	}
	sink, err := d.OpenSink(size, from)
	if d.Resume && !resume && fault.KindOf(err) == fault.Overloaded { // another upload of this user to this name runs
		d.Resume = false
		sink, err = d.OpenSink(size, sideeffect.ResumePoint{})
	}
	if err != nil {
		return err
	}
	u.sink = sink
	if k, ok := sink.(sideeffect.Keeper); ok && d.Resume {
		u.keep = &keeping{sink: k, stored: from.Offset, kept: from.Offset, tried: from.Offset, root: from.Root}
		u.keep.note, u.keep.noted = u.s.node.Remains.claim(u.remain())
		u.n, u.offset = from.Offset, from.Offset
	}
	return nil
}

// left is where an earlier upload has ended. Where a file has the name, nothing is gone on with:
// whoever asks for its size is told that of the file.
func (u *upload) left(d *sideeffect.Descriptor) (sideeffect.ResumePoint, error) {
	if !u.marked && !u.free() {
		return sideeffect.ResumePoint{}, fault.New("upload", fault.NotFound, "a file has that name")
	}
	ctx := u.ctx
	if !u.marked {
		soon, cancel := context.WithTimeout(ctx, resumeTime)
		defer cancel()
		ctx = soon
	}
	p, err := d.ResumePoint(ctx)
	switch {
	case err != nil && !u.marked && u.ctx.Err() == nil:
		return sideeffect.ResumePoint{}, fault.New("upload", fault.NotFound, "another upload to that name still runs: %w", err)
	case err != nil:
		return sideeffect.ResumePoint{}, err
	}
	if p.Offset == 0 || p.BlockSize != keptBlock || p.Hash != sideeffect.None {
		return sideeffect.ResumePoint{}, fault.New("upload", fault.NotFound, "nothing is left of an earlier upload")
	}
	return p, nil
}

// free tells whether nothing has the name.
func (u *upload) free() bool {
	_, err := u.root.Lstat(u.path.String())
	return errors.Is(err, fs.ErrNotExist)
}

// put takes bytes, and stores whole blocks.
func (u *upload) put(p []byte) error {
	k := u.keep
	if k == nil {
		return u.sink.WriteBlock(p, u.n)
	}
	for len(p) > 0 {
		if len(k.block) == 0 && len(p) >= keptBlock {
			if err := u.store(p[:keptBlock]); err != nil {
				return err
			}
			p = p[keptBlock:]
			continue
		}
		if k.block == nil {
			k.block = make([]byte, 0, keptBlock)
		}
		some := min(len(p), keptBlock-len(k.block))
		k.block, p = append(k.block, p[:some]...), p[some:]
		if len(k.block) == keptBlock {
			if err := u.store(k.block); err != nil {
				return err
			}
			k.block = k.block[:0]
		}
	}
	return nil
}

func (u *upload) store(block []byte) error {
	k := u.keep
	if err := k.sink.WriteBlock(block, k.stored); err != nil {
		return err
	}
	k.root = sideeffect.FoldRoot(k.root, k.stored, block)
	k.stored += int64(len(block))
	return u.keepUp()
}

// keepUp syncs beside the writing, and writes down what is durable.
func (u *upload) keepUp() error {
	k := u.keep
	if a := k.ahead; a != nil {
		select {
		case <-a.ready:
		default:
			if k.stored-a.point.Offset < u.s.node.Remains.every {
				return nil
			}
		}
		return u.settle()
	}
	s, ok := k.sink.(sideeffect.AheadSyncer)
	if !ok || k.stored-k.tried < u.s.node.Remains.every {
		return nil
	}
	k.ahead = &syncing{point: k.point()}
	k.ahead.ready, k.ahead.finish = s.BeginSync()
	return nil
}

func (k *keeping) point() sideeffect.ResumePoint {
	return sideeffect.ResumePoint{BlockSize: keptBlock, Offset: k.stored, Root: k.root}
}

// settle waits for a sync that was begun, and writes down what it has made durable.
func (u *upload) settle() error {
	k := u.keep
	a := k.ahead
	if a == nil {
		return nil
	}
	k.ahead = nil
	durable, err := a.finish()
	if err != nil {
		return err
	}
	if durable != a.point.Offset {
		return nil
	}
	return u.write(a.point)
}

// write writes down how far the file is on disk. The node's note comes first: without it nobody
// would ever remove the file. If there can be none, the upload goes on without.
func (u *upload) write(p sideeffect.ResumePoint) error {
	k := u.keep
	k.tried = p.Offset
	if !k.noted || !k.fresh && u.n != u.offset { // it waits anew from now on, if something came
		if u.noteDown(); !k.noted {
			return nil
		}
	}
	if err := k.sink.Keep(p); err != nil {
		return err
	}
	k.kept = p.Offset
	return nil
}

// noteDown notes the upload. If there is no room for that, the log says so once.
func (u *upload) noteDown() {
	k, r := u.keep, u.s.node.Remains
	note, err := r.add(u.remain())
	if err != nil {
		r.unkept(note, err)
		return
	}
	k.note, k.noted, k.fresh = note, true, true
}

// whole stores the rest. What was kept is of no use any more.
func (u *upload) whole() error {
	k := u.keep
	if k == nil {
		return nil
	}
	if k.ahead != nil {
		if _, err := k.ahead.finish(); err != nil {
			return err
		}
		k.ahead = nil
	}
	if len(k.block) == 0 {
		return nil
	}
	err := k.sink.WriteBlock(k.block, k.stored)
	k.stored, k.block = k.stored+int64(len(k.block)), nil
	return err
}

// brokeOff keeps what has come, for the same user's next upload to that name, if that can be told
// from a file there.
func (u *upload) brokeOff() bool {
	k := u.keep
	if k == nil || k.stored == 0 || !u.marked && !u.free() || u.settle() != nil {
		return false
	}
	if durable, err := k.sink.Sync(); err != nil || durable != k.stored {
		return false
	}
	k.fresh = false
	return u.write(k.point()) == nil && k.kept == k.stored
}

// forgotten is what was noted, once the file has its name or is gone.
func (u *upload) forgotten() {
	if u.keep == nil || !u.keep.noted {
		return
	}
	if err := u.s.node.Remains.drop(u.keep.note); err != nil {
		u.s.node.Log.Warn("an upload that is over is still noted", "error", err)
	}
}

// giveUp ends what runs for an upload that is not kept.
func (u *upload) giveUp() {
	if u.keep != nil && u.keep.ahead != nil {
		_, _ = u.keep.ahead.finish()
		u.keep.ahead = nil
	}
}

// keeps tells whether this user's uploads are gone on with.
func (s *session) keeps() bool { return s.user.Send != "" && s.node.Remains != nil }

// resumes tells what a WriteRequest wants, and whose partial file it is.
func (s *session) resumes(w plugins.WriteRequest) (resume bool, key string, err error) {
	if w.Resume == nil {
		return false, remainKey(s.node.Listener, s.user.Name, ""), nil
	}
	mark, err := plugins.Marked(w.Resume)
	switch {
	case err != nil:
		return false, "", err
	case !s.keeps():
		return false, "", fault.New("upload", fault.Unsupported, "an upload begins anew")
	}
	return true, remainKey(s.node.Listener, s.user.Name, mark), nil
}
