package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/bridge"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// What operators see of a bridge.

// list yields what is in a directory of a bridge; dir has no slash in front.
func (b *bridges) list(ctx context.Context, name, dir string) iter.Seq2[admin.Entry, error] {
	return func(yield func(admin.Entry, error) bool) {
		s, over, err := b.Login(ctx, name)
		if err != nil {
			yield(admin.Entry{}, err)
			return
		}
		defer func() { over(err) }()
		l, ok := s.(plugins.Lister)
		if !ok {
			yield(admin.Entry{}, fault.New("list", fault.Unsupported, "the server does not list its files for this user"))
			return
		}
		for a, failed := range l.List(ctx, "/"+dir) {
			if err = failed; !yield(admin.Entry{Name: a.Name, Size: a.Size, Directory: a.Dir, Modified: a.Modified}, failed) {
				return
			}
		}
	}
}

// stat looks at a name for others than operators.
func (b *bridges) stat(ctx context.Context, name, file string) (plugins.Attr, error) {
	s, over, err := b.Login(ctx, name)
	if err != nil {
		return plugins.Attr{}, bridge.AsEnd(name, err)
	}
	a, err := s.Stat(ctx, file)
	over(err)
	return a, bridge.AsEnd(name, err)
}

// Probe is of admin.Config.
func (b *bridges) Probe(ctx context.Context, name string, write bool) (found []string, err error) {
	s, err := b.find(name)
	if err != nil {
		return nil, err
	}
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	is, err := s.plugin.Describe(ctx)
	if err != nil {
		return nil, err
	}
	say("plugin %s %s, process %d", is.Name, is.Version, is.PID)
	began := time.Now()
	to, err := s.endpoint(ctx)
	if err != nil {
		return nil, err
	}
	session, err := s.plugin.Open(ctx, to)
	s.mu.Lock()
	s.heard(to, err, time.Now())
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	defer session.Close()
	say("logged in in %v", time.Since(began).Round(time.Millisecond))
	can := session.Capabilities()
	say("it can: %s", abilities(can))
	for _, n := range can.Notes {
		say("%s", n)
	}
	if write {
		found = append(found, b.probeWrite(ctx, s, session)...)
	}
	return found, nil
}

// abilities are the capabilities in words.
func abilities(c plugins.Capabilities) string {
	var all []string
	for _, a := range []struct {
		can  bool
		what string
	}{
		{true, "read"}, {c.Offsets, "read from an offset"}, {c.Write, "write"}, {c.Resume, "go on with a write"}, {c.Atomic, "replace in one step"},
		{c.List, "list"}, {c.Rename, "rename"}, {c.Remove, "remove"}, {c.Mkdir, "make directories"}, {c.Copy, "copy to another server"},
	} {
		if a.can {
			all = append(all, a.what)
		}
	}
	if len(c.Checksums) > 0 {
		all = append(all, "compute "+strings.Join(c.Checksums, ", "))
	}
	return strings.Join(all, ", ")
}

// probeWrite writes a small file, compares clocks by it, and has it copied to where that is
// allowed. All is removed again.
func (b *bridges) probeWrite(ctx context.Context, s *server, session plugins.Session) (found []string) {
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	w, ok := session.(plugins.Writer)
	if _, removes := session.(plugins.Remover); !ok || !removes {
		say("nothing was written: it does not both write and remove for this user")
		return found
	}
	name := "/pannier-probe-" + strings.ToLower(rand.Text()[:8])
	began := time.Now()
	a, err := writeProbe(ctx, w, name)
	defer func() { // also after an error, which may have come behind the name
		if err := removeProbe(ctx, session, name); err != nil {
			say("%s could not be removed: %s", name, inFull(err))
		}
	}()
	if err != nil {
		say("writing %s failed: %s", name, inFull(err))
		return found
	}
	say("wrote %s in %v", name, time.Since(began).Round(time.Millisecond))
	if !a.Modified.IsZero() {
		say("its clock differs from this node's by %v", a.Modified.Sub(began).Round(time.Second))
	}
	for _, other := range s.FXP {
		left, err := b.probeCopy(ctx, s, session, name, other)
		if err != nil {
			say("direct copy to %s failed: %s", other, inFull(err))
		} else {
			say("direct copy to %s works", other)
		}
		if left != nil {
			say("%s may stay at %s: %s", name, other, inFull(left))
		}
	}
	return found
}

// inFull is an error in one line, with what it advises: who asks has configured the bridge.
func inFull(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// probeTidy is how long the removal of what was written may take, also when the command has gone.
const probeTidy = 10 * time.Second

// removeProbe removes what was written, if it is there.
func removeProbe(ctx context.Context, s plugins.Session, name string) error {
	r, ok := s.(plugins.Remover)
	if !ok {
		return fault.New("remove", fault.Unsupported, "the server removes nothing for this user")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTidy)
	defer cancel()
	err := r.Remove(ctx, name)
	if err == nil {
		return nil
	}
	if _, gone := s.Stat(ctx, name); fault.KindOf(gone) == fault.NotFound {
		return nil
	}
	return err
}

func writeProbe(ctx context.Context, w plugins.Writer, name string) (a plugins.Attr, err error) {
	const text = "written to try this server, and removed at once\n"
	st, err := w.Write(ctx, name, plugins.WriteRequest{Size: int64(len(text))})
	if err != nil {
		return a, err
	}
	if _, err = st.Write([]byte(text)); err == nil {
		a, err = st.Commit(ctx)
	}
	if err != nil {
		_, _ = st.Abort(ctx, false)
	}
	return a, err
}

// probeCopy has the file copied, and removes it there whatever has come of that; left is why it could
// not.
func (b *bridges) probeCopy(ctx context.Context, s *server, session plugins.Session, name, other string) (left, err error) {
	if err := b.Direct(s.Name, other); err != nil {
		return nil, err
	}
	c, ok := session.(plugins.Copier)
	if !ok {
		return nil, fault.New("copy", fault.Unsupported, "the server cannot send to another one for this user")
	}
	to, over, err := b.Login(ctx, other)
	if err != nil {
		return nil, err
	}
	_, err = c.Copy(ctx, name, to, name, plugins.CopyRequest{})
	left = removeProbe(ctx, to, name)
	over(err)
	return left, err
}
