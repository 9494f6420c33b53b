package engine

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine/answers"
	"github.com/pannier/pannier/spec/fault"
)

// In one process what is left behind would hold files of the node that starts next: tests wait for it, but those that
// call Leave.
func init() { leaveAfter = math.MaxInt }

// Leave makes nodes leave behind, from here on, what does not end.
func Leave(t *testing.T) {
	leaveAfter = 25
	t.Cleanup(func() { leaveAfter = math.MaxInt })
}

// Hang makes the file systems of directories whose names end so answer only when the function that it returns
// is called.
func Hang(t *testing.T, name string) (answer func()) { return HangFrom(t, name, time.Time{}) }

// HangFrom is Hang from a time on.
func HangFrom(t *testing.T, name string, from time.Time) (answer func()) {
	t.Helper()
	was, goOn := lookAt, make(chan struct{})
	lookAt = func(dir string) error {
		if strings.HasSuffix(dir, name) && !time.Now().Before(from) {
			<-goOn
		}
		return was(dir)
	}
	answer = sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(func() {
		answer()
		synctest.Wait()
		lookAt = was
	})
	return answer
}

// TestSilentDirectory: a directory whose file system does not answer is waited for once, by all who ask for it together;
// who asks later is told at once, and others are not held up.
func TestSilentDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung, well := filepath.Join(t.TempDir(), "hung"), t.TempDir()
		if err := os.Mkdir(hung, 0o755); err != nil {
			t.Fatal(err)
		}
		answer := Hang(t, "hung")
		began := time.Now()
		var asking sync.WaitGroup
		for range 100 {
			asking.Go(func() {
				_, err := OpenRoot(hung)
				if !errors.Is(err, errSilentRoot) || fault.KindOf(err) != fault.IO || time.Since(began) != answers.Patience {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
			})
		}
		root, err := OpenRoot(well)
		if err != nil || time.Since(began) != 0 {
			t.Fatalf("another one, after %v: %v", time.Since(began), err)
		}
		_ = root.Close()
		asking.Wait()
		time.Sleep(time.Hour)
		began = time.Now()
		if _, err := OpenRoot(hung); !errors.Is(err, errSilentRoot) || time.Since(began) > time.Millisecond {
			t.Errorf("an hour later, after %v: %v", time.Since(began), err)
		}
		if silent := SilentDirs(hung, well); len(silent) != 1 || !silent[hung] {
			t.Errorf("silent are %v", silent)
		}
		answer()
		synctest.Wait()
		if root, err = OpenRoot(hung); err != nil {
			t.Fatal(err)
		}
		_ = root.Close()
	})
}

// Places are how many have one, as they are counted.
func Places(e *Engine) map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := map[string]int{"run": e.queue.running, "served": e.serving}
	for partner, n := range e.served {
		of["served for "+partner] = n
	}
	for partner, l := range e.queue.lines {
		of["run with "+partner] = l.running
	}
	return of
}
