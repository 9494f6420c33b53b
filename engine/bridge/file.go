package bridge

import (
	"context"
	"fmt"
	"io"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// file is a file at a server, as the Local of a descriptor that sends it.
type file struct {
	servers Servers
	server  string
	name    string // at the server
}

// File is a file at a server below dir, a name of it without a slash at its end; what is sent
// is read there. It cannot be written to.
func File(servers Servers, server, dir string, name relpath.Path) sideeffect.Identity {
	return &file{servers, server, dir + "/" + name.String()}
}

func (f *file) String() string { return fmt.Sprintf("file %q at %s", f.name, f.server) }

// OpenSink implements sideeffect.Identity.
func (f *file) OpenSink(sideeffect.SinkSpec) (sideeffect.Sink, error) {
	return nil, fault.NewLocal("open sink", fault.Unsupported, "%v: files are sent to a bridge as a partner, or by a task", f)
}

// OpenSource implements sideeffect.Identity. It logs in, and asks for the file.
func (f *file) OpenSource(spec sideeffect.SourceSpec) (sideeffect.Source, error) {
	if spec.Offset != 0 {
		return nil, fault.NewLocal("open source", fault.Invalid, "a file at a bridge is read from its beginning").Advise("set Offset to 0")
	}
	if spec.Opening == nil {
		spec.Opening = context.Background()
	}
	return f.open(spec.Opening)
}

// open logs in and asks for the file, until opening ends.
func (f *file) open(opening context.Context) (*remoteSource, error) {
	ctx, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(opening, cancel)
	defer stop()
	s, over, err := f.servers.Login(ctx, f.server)
	if err != nil {
		cancel()
		return nil, AsEnd(f.server, err)
	}
	r := &remoteSource{file: f, s: s, over: over, ctx: ctx, cancel: cancel}
	if r.is, err = r.stat(); err != nil {
		over(err)
		cancel()
		return nil, AsEnd(f.server, err)
	}
	if !stop() { // its context is over, or will be
		over(nil)
		cancel()
		return nil, fault.NewLocal("open source", fault.Canceled, "%v: the opening has ended: %w", f, context.Cause(opening))
	}
	return r, nil
}

// remoteSource reads a file at a server.
type remoteSource struct {
	*file
	s      plugins.Session
	over   func(error)
	ctx    context.Context // of the reading
	cancel context.CancelFunc
	is     plugins.Attr
	from   io.ReadCloser // nil: nothing is read just now
	at     int64
	err    error
}

func (r *remoteSource) stat() (plugins.Attr, error) {
	a, err := r.s.Stat(r.ctx, r.name)
	if err == nil && a.Dir {
		err = fault.New("read", fault.Invalid, "%s is a directory", r.name)
	}
	return a, err
}

func (r *remoteSource) Size() int64      { return r.is.Size }
func (r *remoteSource) Rewindable() bool { return r.s.Capabilities().Offsets }
func (r *remoteSource) Interrupt()       { r.cancel() }

func (r *remoteSource) Version() sideeffect.Version { return versionOf(r.server, r.name, r.is) }

// versionOf tells one content of a name from another, as far as the server says: it is zero
// if that says no size or no time, and then nothing is gone on with.
func versionOf(server, name string, a plugins.Attr) sideeffect.Version {
	if a.Size < 0 || a.Modified.IsZero() {
		return sideeffect.Version{}
	}
	return sideeffect.ForeignVersion(server+":"+name, a.Size, a.Modified)
}

// ReadBlock implements sideeffect.Source. Another offset than the next one begins anew.
func (r *remoteSource) ReadBlock(p []byte, off int64) (n int, err error) {
	if r.from == nil || r.at != off {
		r.close()
		if r.from, err = r.s.Read(r.ctx, r.name, off); err != nil {
			r.err = err
			return 0, AsEnd(r.server, err)
		}
		r.at = off
	}
	n, err = fill(r.from, p)
	r.at += int64(n)
	switch {
	case err == io.EOF:
		return n, r.ended()
	case err != nil:
		r.err = err
		return n, AsEnd(r.server, err)
	case r.at == r.is.Size: // the end has to be confirmed, too
		if extra, _ := r.from.Read(make([]byte, 1)); extra > 0 {
			return n, r.changed()
		}
		return n, r.ended()
	}
	return n, nil
}

// mostVain is how many Reads in a row may bring nothing and say nothing, as of package bufio.
const mostVain = 100

// fill reads until p is full. Unlike io.ReadFull it keeps apart io.EOF and io.ErrUnexpectedEOF, which is how a
// reader says that its content is not whole.
func fill(from io.Reader, p []byte) (total int, err error) {
	for vain := 0; total < len(p) && err == nil; vain++ {
		var n int
		if n, err = from.Read(p[total:]); n > 0 {
			total, vain = total+n, 0
		}
		if vain == mostVain && err == nil {
			err = io.ErrNoProgress
		}
	}
	return total, err
}

// ended is io.EOF when the server has confirmed that these were all bytes.
func (r *remoteSource) ended() error {
	err := r.from.Close()
	r.from = nil
	switch {
	case err != nil:
		r.err = err
		return AsEnd(r.server, err)
	case r.is.Size >= 0 && r.at != r.is.Size:
		return r.changed()
	}
	return io.EOF
}

func (r *remoteSource) changed() error {
	return &fault.Error{Op: "read source", Kind: fault.SourceChanged, Side: fault.Peer, Subject: r.String(),
		Err: fault.New("read", fault.SourceChanged, "it had %d bytes, and has others now", r.is.Size)}
}

// Check implements sideeffect.Source.
func (r *remoteSource) Check() error {
	now, err := r.stat()
	if err == nil && (now.Size != r.is.Size || !now.Modified.Equal(r.is.Modified)) {
		return r.changed()
	}
	return AsEnd(r.server, err)
}

func (r *remoteSource) close() {
	if r.from != nil {
		_ = r.from.Close() // its bytes are not wanted
		r.from = nil
	}
}

// Close implements sideeffect.Source.
func (r *remoteSource) Close() error {
	r.close()
	r.cancel()
	r.over(r.err)
	return nil
}
