package crypt

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// receiptTask writes a statement of what was delivered, signed by the receiver.
type receiptTask struct{ to task.Template }

func newReceipt(t *task.Table) (task.Task, error) {
	to, err := task.ParseOther(cmp.Or(t.To, "{path}.receipt"))
	return receiptTask{to}, err
}

// Run implements task.Task. A second run states the time anew; the rest is the same.
func (r receiptTask) Run(ctx context.Context, on *task.On) (task.Result, error) {
	const op = "write receipt"
	if on.Signer == nil {
		return task.Result{}, fault.New(op, fault.Unsupported, "this node has no key to sign with")
	}
	if on.Record.Side != lifecycle.Receiver || on.Record.Phase < lifecycle.Committed {
		return task.Result{}, fault.New(op, fault.Invalid, "a receipt is the receiver's, of a file that has its name: put the task into receiver.post")
	}
	if on.Record.Failing {
		return task.Result{}, fault.New(op, fault.Invalid, "the request has failed, and a receipt says that it has not: put the task into receiver.post")
	}
	to, err := r.to.Path(on.Vars)
	if err != nil {
		return task.Result{}, err
	}
	if to == on.File {
		return task.Result{}, fault.New("make name", fault.Invalid, "%q is the file itself: set to to another name", to)
	}
	s, err := state(ctx, on)
	if err != nil {
		return task.Result{}, err
	}
	text, err := Sign(s, on.Signer)
	if err != nil {
		return task.Result{}, err
	}
	if err := sideeffect.MakeDirs(on.Root, to.Dir()); err != nil {
		return task.Result{}, err
	}
	return task.Result{Output: []byte(s.File.Digest)}, task.Write(ctx, on, to, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// state is the statement about a request's file.
func state(ctx context.Context, on *task.On) (Statement, error) {
	if err := task.NeedFile(on); err != nil {
		return Statement{}, err
	}
	f, err := task.OpenRegular(on.Root, on.File)
	if err != nil {
		return Statement{}, err
	}
	defer f.Close()
	r, h := on.Record, sha256.New()
	in := io.TeeReader(task.While(ctx, f), h)
	n := int64(0)
	if on.Moved {
		if err := moved(ctx, r, f, in); err != nil {
			return Statement{}, err
		}
		n = r.Size
	}
	more, err := io.Copy(io.Discard, in)
	if err != nil {
		return Statement{}, err
	}
	if n += more; on.Moved && more > 0 {
		return Statement{}, another(r)
	}
	return Statement{
		ID: r.Key.ID.String(), Requester: r.Key.Requester, Rule: r.Spec.Rule, Info: r.Spec.Info,
		Sender:   Party{Name: r.Spec.Partner, Keys: append([]string{}, on.PartnerKeys...)},
		Receiver: Party{Name: on.Vars["node"], Keys: []string{on.Signer.Key()}},
		Source:   r.Spec.Source.String(), Target: r.Spec.Target.String(), Size: r.Size, Verified: r.Verified,
		File:       File{Name: on.File.String(), Size: n, Digest: "sha256:" + hex.EncodeToString(h.Sum(nil))},
		Registered: stamp(r.Registered), Signed: stamp(time.Now()),
	}, nil
}

// moved refuses to state of another content that it was delivered.
func moved(ctx context.Context, r *lifecycle.Record, f fs.File, in io.Reader) error {
	whole, err := sideeffect.ParseWhole(r.Size, r.Proof)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	is, err := whole.Is(ctx, in, fi.Size())
	if err == nil && !is || fault.KindOf(err) == fault.SourceChanged {
		return another(r)
	}
	return err
}

func another(r *lifecycle.Record) error {
	return fault.New("write receipt", fault.Corrupt, "the file is not the one any more whose %d bytes were verified: something else has changed it since, or has its name", r.Size)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
