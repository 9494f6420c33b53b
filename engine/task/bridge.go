package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Bridges reaches servers of other protocols, which are known by name.
type Bridges interface {
	// Send writes a file at a bridge's server, and returns when that has all of it under
	// its name; verified is how far the two were compared.
	Send(ctx context.Context, bridge, name string, f Outgoing) (verified string, err error)
	// Fetch writes a file of a bridge's server to dst, which has all of it when it
	// returns without an error.
	Fetch(ctx context.Context, bridge, name string, dst io.Writer) (size int64, verified string, err error)
}

// Outgoing is what is sent to a bridge.
type Outgoing struct {
	Content  io.Reader
	Size     int64
	Modified time.Time // that it is to have there, if the server keeps times
	ID       string    // what it is sent for: the same each time
	Again    bool      // that may have been begun before, and what is unfinished of it be there still
}

// bridgeTask sends the file to a server of another protocol. A second run sends it
// again and replaces what the first has left.
type bridgeTask struct {
	bridge string
	name   Template
}

// BridgeOf is the bridge in the target of a bridge task, "BRIDGE:/NAME"; "" if there
// is none.
func BridgeOf(to string) string {
	bridge, name, ok := strings.Cut(to, ":")
	if !ok || !strings.HasPrefix(name, "/") || strings.ContainsAny(bridge, "{}") {
		return ""
	}
	return bridge
}

func newBridge(t *Table) (Task, error) {
	at := t.To
	if at == "" {
		at = t.From
	}
	bridge := BridgeOf(at)
	if bridge == "" || t.To != "" && t.From != "" {
		return nil, invalid("set to or from, a bridge and a name at its server that begins with a slash, as \"warehouse:/in/{name}\"")
	}
	name, err := ParseTemplate(at[len(bridge)+1:])
	if t.From != "" {
		return fetchTask{bridge, name}, err
	}
	return bridgeTask{bridge, name}, err
}

// fetchTask takes the file from a server of another protocol. A second run takes it again.
type fetchTask struct {
	bridge string
	name   Template
}

// Run implements Task.
func (f fetchTask) Run(ctx context.Context, on *On) (Result, error) {
	if err := NeedFile(on); err != nil {
		return Result{}, err
	}
	if on.Bridges == nil {
		return Result{}, fault.New("find bridge", fault.NotFound, "this node has no bridge %q", f.bridge)
	}
	name := f.name.Fill(on.Vars)
	if err := sideeffect.MakeDirs(on.Root, on.File.Dir()); err != nil {
		return Result{}, err
	}
	temp, err := on.File.Dir().Join(copyName(on.Key))
	if err != nil {
		return Result{}, err
	}
	size, verified, err := f.fetch(ctx, on, temp, name)
	if err == nil {
		err = on.Root.Rename(temp.String(), on.File.String())
	}
	if err != nil {
		_ = on.Root.Remove(temp.String())
		return Result{}, err
	}
	return Result{Output: fmt.Appendf(nil, "%s:%s has %d bytes; compared: %s\n", f.bridge, name, size, cmp.Or(verified, "nothing"))}, syncDir(on.Root, on.File)
}

// fetch writes the file to a temporary, durably.
func (f fetchTask) fetch(ctx context.Context, on *On, temp relpath.Path, name string) (size int64, verified string, err error) {
	if err := on.Root.Remove(temp.String()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, "", err
	}
	out, err := on.Root.OpenFile(temp.String(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return 0, "", err
	}
	size, verified, err = on.Bridges.Fetch(ctx, f.bridge, name, out)
	if err != nil {
		err = failed(ctx, "take from "+f.bridge, name, err)
	} else {
		err = out.Sync()
	}
	return size, verified, errors.Join(err, out.Close())
}

// Run implements Task.
func (b bridgeTask) Run(ctx context.Context, on *On) (Result, error) {
	if err := NeedFile(on); err != nil {
		return Result{}, err
	}
	if on.Bridges == nil {
		return Result{}, fault.New("find bridge", fault.NotFound, "this node has no bridge %q", b.bridge)
	}
	f, err := OpenRegular(on.Root, on.File)
	if err != nil {
		return Result{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return Result{}, err
	}
	name := b.name.Fill(on.Vars)
	verified, err := on.Bridges.Send(ctx, b.bridge, name, Outgoing{Content: io.LimitReader(f, before.Size()), Size: before.Size(), ID: on.Key.String(), Again: on.Again,
		Modified: before.ModTime()})
	if err != nil {
		return Result{}, failed(ctx, "send to "+b.bridge, name, err)
	}
	if err := unchanged(f, before); err != nil {
		return Result{}, err
	}
	if verified == "" {
		verified = "nothing"
	}
	return Result{Output: []byte(b.bridge + ":" + name + " has it; compared: " + verified + "\n")}, nil
}

// failed makes an error of a bridge one of this end's: its server is no partner, and
// that this node is not let in there says nothing of who asked for the request.
func failed(ctx context.Context, op, name string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	kind := fault.KindOf(err)
	switch kind {
	case fault.Unauthenticated:
		kind = fault.Refused
	case fault.Canceled: // nobody here has
		kind = fault.Lost
	}
	return &fault.Error{Op: op, Kind: kind, Subject: name, Err: errors.New(err.Error())}
}

// unchanged says whether somebody has written to a file that was sent meanwhile.
func unchanged(f *os.File, before os.FileInfo) error {
	after, err := f.Stat()
	if err == nil && (after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime())) {
		err = fault.New("read file", fault.SourceChanged, "it was written to while it was sent")
	}
	return err
}
