package task

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// Bridges reaches servers of other protocols, which are known by name.
type Bridges interface {
	// Send writes size bytes to a file at a bridge's server, and returns when that
	// has all of it under its name; verified is how far the two were compared.
	Send(ctx context.Context, bridge, name string, src io.Reader, size int64) (verified string, err error)
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
	bridge := BridgeOf(t.To)
	if bridge == "" {
		return nil, invalid("set to, a bridge and a name at its server that begins with a slash, as \"warehouse:/in/{name}\"")
	}
	name, err := ParseTemplate(t.To[len(bridge)+1:])
	return bridgeTask{bridge, name}, err
}

// Run implements Task.
func (b bridgeTask) Run(ctx context.Context, on *On) (Result, error) {
	if err := needFile(on); err != nil {
		return Result{}, err
	}
	if on.Bridges == nil {
		return Result{}, fault.New("find bridge", fault.NotFound, "this node has no bridge %q", b.bridge)
	}
	f, err := openRegular(on.Root, on.File)
	if err != nil {
		return Result{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return Result{}, err
	}
	name := b.name.Fill(on.Vars)
	verified, err := on.Bridges.Send(ctx, b.bridge, name, io.LimitReader(f, before.Size()), before.Size())
	if err != nil {
		return Result{}, b.failed(ctx, name, err)
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
func (b bridgeTask) failed(ctx context.Context, name string, err error) error {
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
	return &fault.Error{Op: "send to " + b.bridge, Kind: kind, Subject: name, Err: errors.New(err.Error())}
}

// unchanged says whether somebody has written to a file that was sent meanwhile.
func unchanged(f *os.File, before os.FileInfo) error {
	after, err := f.Stat()
	if err == nil && (after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime())) {
		err = fault.New("read file", fault.SourceChanged, "it was written to while it was sent")
	}
	return err
}
