package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// duo is two nodes that are each other's partners. Both have two rules: push sends
// and pull receives, seen from where a request is registered.
type duo struct {
	a, b *nodetest.Node
	logs [2]*os.File
}

// duoSettings are what checks choose. The smaller window and sync interval are,
// the more a transfer of a given size has of what a crash can hit.
type duoSettings struct {
	every  int64       // bytes between durable offsets; 0: the default
	window int64       // most bytes in flight; 0: the default
	place  [2][]string // state directory and root of a node; empty: below the scratch folder
	tasks  string      // TOML lines that both rules get
	node   []string    // TOML lines that both nodes get
}

func newDuo(ctx context.Context, dir string, o duoSettings) (*duo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fault.Wrap("find program", "", err)
	}
	a, b, err := nodetest.Pair(dir, self, roleNode, "--sync", strconv.FormatInt(o.every, 10), "--window", strconv.FormatInt(o.window, 10))
	if err != nil {
		return nil, err
	}
	d := &duo{a: a, b: b}
	for i, n := range []*nodetest.Node{a, b} {
		if len(o.place[i]) == 2 {
			n.State, n.Root = o.place[i][0], o.place[i][1]
			if err := n.Identify(); err != nil {
				return nil, err
			}
		}
		if d.logs[i], err = os.Create(filepath.Join(n.Dir, "log")); err != nil {
			return nil, fault.Wrap("make log", "", err)
		}
		n.Log = d.logs[i]
	}
	rules := ""
	for name, direction := range map[string]string{"push": "send", "pull": "receive"} {
		rules += fmt.Sprintf("[[rule]]\nname = %q\ndirection = %q\npartners = [\"*\"]\nroot = \"%%ROOT%%\"\nretry = { attempts = 100000, delay = \"1s\", factor = 1 }\n%s\n", name, direction, o.tasks)
	}
	for _, n := range []*nodetest.Node{a, b} {
		if err := n.Write(append([]string{"drain = \"1s\""}, o.node...), nil, rules, d.other(n)); err != nil {
			return nil, err
		}
		if err := n.Start(ctx); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	return d, nil
}

func (d *duo) other(n *nodetest.Node) *nodetest.Node {
	if n == d.a {
		return d.b
	}
	return d.a
}

// close ends both. A node that has panicked is an error.
func (d *duo) close() (err error) {
	for i, n := range []*nodetest.Node{d.a, d.b} {
		n.Close()
		if d.logs[i] == nil {
			continue
		}
		d.logs[i].Close()
		if text, readErr := os.ReadFile(d.logs[i].Name()); readErr == nil {
			if at := panicked(text); at != "" {
				err = errors.Join(err, fault.New("end node", fault.Internal, "%s has panicked: %s", n.Name, at))
			}
		}
	}
	return err
}

// panicked is the first line of a Go panic or fatal error in a log; "" without one.
func panicked(log []byte) string {
	for line := range bytes.Lines(log) {
		if bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: ")) || bytes.HasPrefix(line, []byte("unexpected fault address")) {
			return string(bytes.TrimSpace(line))
		}
	}
	return ""
}

// submit registers a request at a node, for a file of one name at both ends.
func (d *duo) submit(ctx context.Context, at *nodetest.Node, rule, name string) (string, error) {
	c, err := at.Client()
	if err != nil {
		return "", err
	}
	r, err := c.Submit(ctx, &adminpb.SubmitRequest{Partner: d.other(at).Name, Rule: rule, Source: name})
	if err != nil {
		return "", err
	}
	return r.GetRequest().GetId(), nil
}

// toB registers a transfer from a to b, at either end in turn.
func (d *duo) toB(ctx context.Context, i int, name string) (at *nodetest.Node, id string, err error) {
	if at = d.a; i%2 == 1 {
		at = d.b
		id, err = d.submit(ctx, at, "pull", name)
		return at, id, err
	}
	id, err = d.submit(ctx, at, "push", name)
	return at, id, err
}

// arrived waits until at least so many bytes of a transfer are safe at b.
func (d *duo) arrived(ctx context.Context, at *nodetest.Node, id string, bytes int64) error {
	for end := time.Now().Add(finishLimit / 6); ; time.Sleep(time.Millisecond) {
		r, err := get(ctx, d.b, id)
		switch {
		case err != nil:
			return err
		case r.GetDurable() >= bytes:
			return nil
		case time.Now().After(end):
			return fault.New("wait for bytes", fault.Deadline, "%d of %d: %v", r.GetDurable(), bytes, r)
		case r.GetState() == adminpb.Request_INTERRUPTED:
			d.hurry(ctx, at, id)
		}
	}
}

// get is a request as a node has it; nil when it has none.
func get(ctx context.Context, n *nodetest.Node, id string) (*adminpb.Request, error) {
	c, err := n.Client()
	if err != nil {
		return nil, err
	}
	r, err := c.Get(ctx, &adminpb.Ref{Id: id})
	if errors.Is(err, fault.NotFound) {
		return nil, nil
	}
	return r, err
}

// hurry moves on what waits at its requester, whatever the back-off.
func (d *duo) hurry(ctx context.Context, at *nodetest.Node, id string) {
	c, err := at.Client()
	if err != nil {
		return
	}
	_, _ = c.TestPartner(ctx, &adminpb.TestPartnerRequest{Partner: d.other(at).Name}) // down: it is tried again
	_, _ = c.Resume(ctx, &adminpb.Ref{Id: id})                                        // it runs already: so much the better
}

// finishLimit is how long a transfer may take to end once nothing hinders it.
const finishLimit = 3 * time.Minute

// finish waits until the request is DONE at both ends.
func (d *duo) finish(ctx context.Context, at *nodetest.Node, id string) error {
	ctx, cancel := context.WithTimeout(ctx, finishLimit)
	defer cancel()
	c, err := at.Client()
	if err != nil {
		return err
	}
	for {
		r, err := c.Wait(ctx, &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: id}, Timeout: durationpb.New(100 * time.Millisecond)})
		if err != nil {
			return err
		}
		switch r.GetState() {
		case adminpb.Request_DONE:
			other, err := get(ctx, d.other(at), id) // which is DONE first
			if err == nil && other.GetState() != adminpb.Request_DONE {
				err = fault.New("finish", fault.Internal, "%s is DONE, the other %v", at.Name, other.GetState())
			}
			return err
		case adminpb.Request_INERROR:
			return fault.New("finish", fault.Internal, "INERROR: %s", r.GetFailure().GetCause())
		case adminpb.Request_INTERRUPTED:
			d.hurry(ctx, at, id)
		}
	}
}

// recordOf is the record in the store of a node whose process has ended.
func recordOf(ctx context.Context, n *nodetest.Node, id string) (r lifecycle.Record, err error) {
	s, err := boltstore.Open(boltstore.Config{Path: filepath.Join(n.State, "store.db")})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for r, err := range s.Find(ctx, store.Query{}) {
		if err != nil || r.Key.ID.String() == id {
			return r, err
		}
	}
	return r, fault.New("find record", fault.NotFound, "%s has none of %s", n.Name, id)
}

// content is n bytes that no place of the file has twice.
func content(rnd *rand.Rand, n int) []byte {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rnd.Uint32())
	}
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// prefix is how many bytes of a file are those of content, and how many it has.
// A file that is not there has none.
func prefix(path string, content []byte) (same, size int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fault.Wrap("compare file", path, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, 0, fault.Wrap("compare file", path, err)
	}
	b := make([]byte, mib)
	for {
		n, err := f.ReadAt(b, same)
		want := content[same:min(int64(len(content)), same+int64(n))]
		if !bytes.Equal(b[:len(want)], want) {
			for i := range want {
				if b[i] != want[i] {
					return same + int64(i), fi.Size(), nil
				}
			}
		}
		same += int64(len(want))
		if err == io.EOF || len(want) < n {
			return same, fi.Size(), nil
		}
		if err != nil {
			return same, fi.Size(), fault.Wrap("compare file", path, err)
		}
	}
}

// mustEqual notes a file that is not the content.
func (w *note) mustEqual(what, path string, content []byte) {
	same, size, err := prefix(path, content)
	if err != nil || same != int64(len(content)) || size != same {
		w.add("%s: %d of %d bytes are right, the file has %d, %v", what, same, len(content), size, err)
	}
}

// moves are the attempts of a request to move bytes, as a node's log has them from
// a place on.
func moves(log *os.File, id string, from int64) (all []move, err error) {
	text, err := os.ReadFile(log.Name())
	if err != nil {
		return nil, fault.Wrap("read log", "", err)
	}
	for line := range strings.Lines(string(text[from:])) {
		if !strings.Contains(line, `msg="bytes have moved"`) || !strings.Contains(line, "id="+id) {
			continue
		}
		var m move
		for _, word := range strings.Fields(line) {
			name, value, _ := strings.Cut(word, "=")
			n, _ := strconv.ParseInt(value, 10, 64)
			switch name {
			case "from":
				m.from = n
			case "to":
				m.to = n
			case "wire":
				m.wire = n
			}
		}
		all = append(all, m)
	}
	return all, nil
}

// move is one attempt to move bytes: where it began, how far it came, and how
// many bytes of it were on the wire.
type move struct{ from, to, wire int64 }

func (m move) String() string {
	return fmt.Sprintf("%.2f to %.2f MiB", float64(m.from)/mib, float64(m.to)/mib)
}

// partialOf is the partial file of a name below a root, of whichever request; none
// is a path that is not there.
func partialOf(root, name string) string {
	all, err := filepath.Glob(filepath.Join(root, "."+name+".pannier-r*"))
	if err != nil {
		panic(err) // names are the checks' own
	}
	for _, path := range all {
		if sideeffect.IsPartial(filepath.Base(path)) {
			return path
		}
	}
	return filepath.Join(root, "no partial file of "+name)
}
