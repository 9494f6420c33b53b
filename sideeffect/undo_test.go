package sideeffect

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// TestUndoTakesItsOwn: a sink that writes in place and gives up removes the file that it has made, and not one that another
// program has put in its place meanwhile.
func TestUndoTakesItsOwn(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		s, err := File(root, "a").OpenSink(SinkSpec{Mode: Truncate})
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, "a")
		if replaced {
			if err := os.WriteFile(name+".new", []byte("another's"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(name+".new", name); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Abort(false); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(name); replaced != (err == nil) {
			t.Errorf("replaced %v: %v", replaced, err)
		}
	}
}

// TestUndoSparesOthers: what a sink has made and gives up stays where another one writes into it, or has committed.
func TestUndoSparesOthers(t *testing.T) {
	for _, committed := range []bool{false, true} {
		root, dir := newRoot(t)
		first, err := File(root, "a").OpenSink(SinkSpec{Mode: AtOffset})
		noError(t, err)
		second, err := File(root, "a").OpenSink(SinkSpec{Mode: AtOffset, Offset: 3})
		noError(t, err)
		noError(t, second.WriteBlock([]byte("def"), 0))
		if committed {
			noError(t, second.Commit())
			noError(t, second.Close())
		}
		noError(t, first.Close())
		if !committed {
			noError(t, second.Commit())
			noError(t, second.Close())
		}
		wantFiles(t, dir, "a", []byte("\x00\x00\x00def"))
		fi, err := os.Stat(filepath.Join(dir, "a"))
		noError(t, err)
		if at := inPlaces.enter(fi); at.sinks != 1 || at.committed {
			t.Errorf("the place is still known: %+v", at)
		} else {
			inPlaces.leave(at)
		}
	}
}

// TestUndoBeforeAppend: who has opened a file whose maker then gives it up writes into a new one, not into one without a name;
// and who appends keeps others from appending, not from having the file.
func TestUndoBeforeAppend(t *testing.T) {
	root, dir := newRoot(t)
	gone := &meeting{Layer: osLayer{}}
	first, err := File(root, "a").OpenSink(SinkSpec{Mode: Append})
	noError(t, err)
	gone.opened = func() { noError(t, first.Close()) }
	second, err := FileOn(gone, root, "a").OpenSink(SinkSpec{Mode: Append})
	noError(t, err)
	_, err = File(root, "a").OpenSink(SinkSpec{Mode: Append})
	wantKind(t, err, fault.Overloaded)
	noError(t, putAll(second, []byte("second")))
	noError(t, second.Close())
	wantFiles(t, dir, "a", []byte("second"))
}

// meeting is a layer that does something when a file has been opened, the first time.
type meeting struct {
	Layer
	opened func()
}

func (m *meeting) Dir(root *os.Root, dir relpath.Path) (Dir, error) {
	d, err := m.Layer.Dir(root, dir)
	return meetingDir{d, m}, err
}

type meetingDir struct {
	Dir
	m *meeting
}

func (d meetingDir) OpenFile(name string, flag int, perm fs.FileMode) (LayerFile, error) {
	f, err := d.Dir.OpenFile(name, flag, perm)
	if opened := d.m.opened; opened != nil {
		d.m.opened = nil
		opened()
	}
	return f, err
}

// TestPartialWithTwoNames: a partial file that has its final name, too, as a run leaves it that dies between the link and
// the removal, is not written into.
func TestPartialWithTwoNames(t *testing.T) {
	root, dir := newRoot(t)
	noError(t, os.WriteFile(filepath.Join(dir, "a"), []byte("published"), 0o600))
	noError(t, os.Link(filepath.Join(dir, "a"), filepath.Join(dir, partialName("a", ""))))
	s, err := File(root, "a").OpenSink(SinkSpec{Keep: true})
	noError(t, err)
	noError(t, s.WriteBlock([]byte("pa"), 0))
	noError(t, s.Close())
	wantFiles(t, dir, "a", []byte("published"))
}

// TestKeptGivesRoomBack: what was reserved for a file that does not come to its end is not kept with what has come.
func TestKeptGivesRoomBack(t *testing.T) {
	const room = 64 << 20
	root, dir := newRoot(t)
	s, err := File(root, "a").OpenSink(SinkSpec{Keep: true, Size: room})
	noError(t, err)
	noError(t, s.WriteBlock(content(testBlock), 0))
	_, err = s.Sync()
	noError(t, err)
	noError(t, s.(Keeper).Keep(ResumePoint{BlockSize: testBlock, Offset: testBlock}))
	name := filepath.Join(dir, partialName("a", ""))
	reserved := used(t, name) // little where the file system reserves nothing
	noError(t, s.Abort(true))
	if n := used(t, name); n > room/2 {
		t.Errorf("%d bytes of the disk are taken for %d, %d were reserved", n, testBlock, reserved)
	}
	noError(t, s.Close())
}

// used is what a file takes of the disk, in bytes.
func used(t *testing.T, name string) int64 {
	fi, err := os.Stat(name)
	noError(t, err)
	return fi.Sys().(*syscall.Stat_t).Blocks * 512
}
