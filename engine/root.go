package engine

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine/answers"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// silentWait is when a request is tried again whose rule's root is in a file system that does not answer.
const silentWait = time.Minute

// lookAt asks the file system of a directory whether it is there.
var lookAt = func(dir string) error {
	_, err := os.Stat(dir)
	return err
}

var present = answers.To(func(dir string) error { return lookAt(dir) })

// openRoot opens the directory that the rule's files are in. One that is not there may be on a file
// system that is not mounted yet, or is not for a while: another attempt may find it, and nothing
// that has arrived is given up for it. One whose file system does not answer is waited for no longer than
// answers.Patience, by all who ask meanwhile together: see silentRoot.
func (r *Rule) openRoot() (*os.Root, error) { return openRoot(r.Root) }

func openRoot(dir string) (*os.Root, error) {
	const op = "open the rule's root"
	if err := answered(op, dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, &fault.Error{Op: op, Subject: dir, Kind: fault.IO, Err: fault.New(op, fault.IO, "%w; is its file system mounted?", err)}
	}
	return root, fault.Wrap(op, dir, err)
}

// answered is an error, after answers.Patience, if the file system of a directory does not answer.
func answered(op, dir string) error {
	if _, answered := present.Soon(answers.Patience, dir); !answered {
		return &fault.Error{Op: op, Subject: dir, Kind: fault.IO, Err: errSilentRoot}
	}
	return nil
}

// OpenRoot is the directory that a rule's files are in. It is an error of the kind IO, after
// answers.Patience, if its file system does not answer.
func OpenRoot(dir string) (*os.Root, error) { return openRoot(dir) }

// IsSilentRoot tells whether err is that of a directory whose file system did not answer.
func IsSilentRoot(err error) bool { return errors.Is(err, errSilentRoot) }

// SilentDirs are those of directories whose file systems do not answer within answers.Patience: whoever looks
// at what is in them waits for ever.
func SilentDirs(dirs ...string) map[string]bool {
	said, silent := present.Within(answers.Patience, dirs...), map[string]bool{}
	for _, dir := range dirs {
		if _, answered := said[dir]; !answered {
			silent[dir] = true
		}
	}
	return silent
}

// silentRoot lets the request wait until the file system of its rule's root answers again: like a partner
// that is down, this costs no attempt, and no place. err is that of openRoot.
func (x *run) silentRoot(err error) error {
	now, f := x.engine.now(), x.failureOf(err)
	wait := lifecycle.Interrupt{Epoch: x.epoch, Reason: lifecycle.Retrying, Owner: lifecycle.Requester, Due: now.Add(spread(silentWait)), Failure: f, InOrder: true}
	switch {
	case x.r.Failing:
		wait.Owner = x.r.Role
	case x.r.Role == lifecycle.Requested: // who is told to call later
		wait.Reason, wait.Due = lifecycle.Awaiting, now.Add(x.engine.cfg.Patience)
		x.silent = true
	}
	x.log.Warn("waits for the file system of its rule's root", "error", err)
	return x.now(wait)
}

// silentAnswer is what the requester hears of that.
func silentAnswer() Answer {
	return busyFor(silentWait, false, "the directory of the rule's files there: %s", fault.Shown(SilentRoot))
}

// awaitsRoot: what keeps the request is a file system, of this end or of the other.
func awaitsRoot(r *lifecycle.Record) bool {
	f := &r.Failure
	return r.State == lifecycle.Interrupted && (r.Reason == lifecycle.Retrying || r.Reason == lifecycle.Awaiting) &&
		(f.Kind == fault.IO && f.Side == fault.Here || f.Kind == fault.Overloaded && f.Side == fault.Peer) && strings.Contains(f.Cause, SilentRoot)
}
