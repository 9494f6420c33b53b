package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/ftp"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/s3"
	"github.com/pannier/pannier/plugins/sftp"
)

// TestMain makes the test binary an end of its own benchmarks, and their plugin.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == host.EntryArgument {
		plugins.Serve(map[string]plugins.Driver{"zeros": Zeros{}, "dir": dir.Driver{}, "ftp": ftp.Driver{}, "s3": s3.Driver{}, "sftp": sftp.Driver{}}[os.Args[2]])
	}
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case "end":
			runEnd(os.Stdout)
		case "liar":
			runEnd(liar{os.Stdout})
		}
	}
	goleak.VerifyTestMain(m)
}

func runEnd(out io.Writer) {
	if err := End(context.Background(), os.Stdin, out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// liar is the stdout of an end that damages the target before it says that the
// move is done. PANNIER_TEST_TARGET names the directory of the workspaces.
type liar struct{ out io.Writer }

func (l liar) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(`"seconds"`)) {
		targets, _ := filepath.Glob(filepath.Join(os.Getenv("PANNIER_TEST_TARGET"), "*", "target-0"))
		for _, target := range targets {
			f, err := os.OpenFile(target, os.O_WRONLY, 0)
			if err != nil {
				return 0, err
			}
			if _, err := f.WriteAt([]byte{0xff, 0x00, 0xff}, 1000); err != nil {
				return 0, err
			}
			f.Close()
		}
	}
	return l.out.Write(line)
}

// small is a Config that is over soon.
func small(t *testing.T) Config {
	t.Helper()
	self, err := Self("end")
	if err != nil {
		t.Fatal(err)
	}
	return Config{Runs: 1, Size: 3<<20 + 17, Calls: 20, Dir: t.TempDir(), Program: self, Progress: t.Output()}
}

// empty fails the test if a benchmark left files behind.
func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v, %v", dir, left, err)
	}
}
