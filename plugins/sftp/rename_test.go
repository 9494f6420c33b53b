package sftp

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// TestRenameLost: a rename whose reply does not come was done, or was not. Nor was it where nothing unfinished is there any more and an
// older file of the size has the name.
func TestRenameLost(t *testing.T) {
	const older = "its like"
	for _, c := range []struct{ done, removed bool }{{true, false}, {false, false}, {false, true}} {
		f := fakes(t, func(f *fake) {
			f.request = func(l *link, typ byte, body []byte) bool {
				r := fields{b: body[4:]}
				if typ == fxExtended && r.text() == extRename {
					switch part := r.text(); {
					case c.done:
						_ = os.Rename(part, r.text())
					case c.removed:
						_ = os.Remove(part)
					}
					f.cut()
					return false
				}
				return true
			}
		})
		f.has("file", []byte(older))
		if err := os.Chtimes(f.dir+"/file", time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		a, err := write(t.Context(), f.opens(), "/file", []byte("contents"))
		if c.done {
			if err != nil || a.Size != 8 {
				t.Errorf("it was done, and says %v", err)
			}
			holds(t, f.dir, "file", "contents")
			continue
		}
		isKind(t, err, fault.Lost, extRename)
		holds(t, f.dir, "file", older)
	}
}

// TestPartRemoved: of a file that the server has confirmed, and has not when it is to be renamed, it is said what may have removed it.
func TestPartRemoved(t *testing.T) {
	f := fakes(t, func(f *fake) {
		f.request = func(l *link, typ byte, body []byte) bool {
			r := fields{b: body[4:]}
			if typ == fxExtended && r.text() == extRename {
				_ = os.Remove(r.text())
			}
			return true
		}
	})
	f.has("file", []byte("older"))
	_, err := write(t.Context(), f.opens(), "/file", []byte("content"))
	isKind(t, err, fault.NoSpace, f.address, "all 7 bytes", "quota", "names end in .part")
	if strings.Contains(err.Error(), "check the name") {
		t.Error(err)
	}
	holds(t, f.dir, "file", "older")
}

// TestRenameLostBesideIdle: a rename whose reply does not come was done, and the connection that was idle, on which
// it is asked whether, has gone too, unnoticed until then.
func TestRenameLostBesideIdle(t *testing.T) {
	stats := 0
	var renamed atomic.Bool
	f := fakes(t, func(f *fake) {
		f.request = func(l *link, typ byte, body []byte) bool {
			r := fields{b: body[4:]}
			switch {
			case typ == fxExtended && r.text() == extRename:
				_ = os.Rename(r.text(), r.text())
				renamed.Store(true)
				f.cut()
				return false
			case renamed.Load() && typ == fxStat:
				if stats++; stats <= 2 {
					f.cut()
					return false
				}
			}
			return true
		}
	})
	if a, err := write(t.Context(), f.opens(), "/file", []byte("content")); err != nil || a.Size != 7 {
		t.Errorf("it was done, and says %v, %v", a, err)
	}
	if stats < 3 {
		t.Errorf("asked %d times", stats)
	}
}
