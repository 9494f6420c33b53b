package pack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/engine/task/tasktest"
	"github.com/pannier/pannier/spec/fault"
)

// entry is one of an archive, whatever its name.
type entry struct {
	name, link string
	kind       byte // of tar
	content    string
}

func tarOf(t testing.TB, entries ...entry) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
			if strings.HasSuffix(e.name, "/") {
				e.kind = tar.TypeDir
			}
		}
		if err := w.WriteHeader(&tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: 0o4755, Size: int64(len(e.content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zipOf(t testing.TB, entries ...entry) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		switch e.kind {
		case tar.TypeSymlink:
			h.SetMode(fs.ModeSymlink | 0o777)
			e.content = e.link
		case tar.TypeFifo:
			h.SetMode(fs.ModeNamedPipe | 0o666)
		case tar.TypeChar:
			h.SetMode(fs.ModeDevice | fs.ModeCharDevice | 0o666)
		default:
			h.SetMode(0o755 | fs.ModeSetuid)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// extract runs the task on an archive below a directory in which nothing else may change.
func extract(t testing.TB, name, archive string, table task.Table) (*task.On, error) {
	t.Helper()
	o := tasktest.On(t, name, archive)
	table.Task, table.To, table.Remove = "extract", "to/dir", true
	_, err := step(t, table).Run(t.Context(), o)
	return o, err
}

// TestExtractHostile: archives that would leave their directory, or fill the disk, end in
// an error, with nothing under the final name, nothing outside, and the archive kept.
func TestExtractHostile(t *testing.T) {
	for what, c := range map[string]struct {
		entries []entry
		kind    fault.Kind
	}{
		"above":                     {[]entry{{name: "../evil"}}, fault.Invalid},
		"above, late":               {[]entry{{name: "fine", content: "x"}, {name: "a/../../evil"}}, fault.Invalid},
		"absolute":                  {[]entry{{name: "/tmp/evil"}}, fault.Invalid},
		"backslashes":               {[]entry{{name: `..\evil`}}, fault.Invalid},
		"control characters":        {[]entry{{name: "a\nb"}}, fault.Invalid},
		"an unfinished file":        {[]entry{{name: "a/.x.pannier-r0123456789abcdef.state"}}, fault.Invalid},
		"no name":                   {[]entry{{name: "/"}}, fault.Invalid},
		"a symbolic link":           {[]entry{{name: "link", link: "/etc/passwd", kind: tar.TypeSymlink}}, fault.Refused},
		"through a link":            {[]entry{{name: "a", link: "..", kind: tar.TypeSymlink}, {name: "a/evil", content: "x"}}, fault.Refused},
		"a chain of links":          {[]entry{{name: "a", link: ".", kind: tar.TypeSymlink}, {name: "a/b", link: "..", kind: tar.TypeSymlink}, {name: "b/evil"}}, fault.Refused},
		"a FIFO":                    {[]entry{{name: "fifo", kind: tar.TypeFifo}}, fault.Refused},
		"a device":                  {[]entry{{name: "null", kind: tar.TypeChar}}, fault.Refused},
		"twice":                     {[]entry{{name: "a", content: "1"}, {name: "a", content: "2"}}, fault.Invalid},
		"twice, one with a dot":     {[]entry{{name: "a", content: "1"}, {name: "./a", content: "2"}}, fault.Invalid},
		"a file and a directory":    {[]entry{{name: "a", content: "1"}, {name: "a/b", content: "2"}}, fault.Invalid},
		"a directory and a file":    {[]entry{{name: "a/b", content: "1"}, {name: "a", content: "2"}}, fault.Invalid},
		"a deep name of many parts": {[]entry{{name: strings.Repeat("a/", 600) + "b"}}, fault.TooLong},
	} {
		for _, format := range []string{"tar", "zip"} {
			archive := tarOf(t, c.entries...)
			if format == "zip" {
				archive = zipOf(t, c.entries...)
			}
			o, err := extract(t, "in/a."+format, archive, task.Table{})
			kind := fault.KindOf(err)
			if err == nil || kind != c.kind && !(c.kind == fault.TooLong && kind == fault.Invalid) {
				t.Errorf("%s, %s: %v", what, format, err)
			}
			untouched(t, what+", "+format, o, "in/a."+format, archive)
		}
	}
	o, err := extract(t, "in/a.tar", tarOf(t, entry{name: "a", content: "1"}, entry{name: "b", link: "a", kind: tar.TypeLink}), task.Table{})
	if fault.KindOf(err) != fault.Refused {
		t.Errorf("a hard link: %v", err)
	}
	tasktest.Clean(t, o)
}

// untouched says that there is the archive and nothing else.
func untouched(t *testing.T, what string, o *task.On, name, archive string) {
	t.Helper()
	tasktest.Clean(t, o)
	if got := tasktest.Content(t, o, name); got != archive {
		t.Errorf("%s: the archive is gone", what)
	}
	_ = filepath.WalkDir(o.Root.Name(), func(at string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(o.Root.Name(), at); err == nil && rel != "." && rel != "in" && rel != name && rel != "to" {
			t.Errorf("%s: there is %s", what, rel)
		}
		return nil
	})
	for _, evil := range []string{"/tmp/evil", filepath.Join(filepath.Dir(o.Root.Name()), "evil")} {
		if _, err := os.Lstat(evil); err == nil {
			t.Errorf("%s: %s was made", what, evil)
		}
	}
}

// TestExtractModes: a set-uid bit is not taken over.
func TestExtractModes(t *testing.T) {
	for _, c := range [][2]string{{"a.tar", tarOf(t, entry{name: "x", content: "1"})}, {"a.zip", zipOf(t, entry{name: "x", content: "1"})}} {
		o, err := extract(t, c[0], c[1], task.Table{})
		if err != nil {
			t.Fatal(err)
		}
		if fi, err := o.Root.Stat("to/dir/x"); err != nil || fi.Mode()&(fs.ModeSetuid|0o022) != 0 || fi.Mode()&0o100 == 0 {
			t.Errorf("%s: %v, %v", c[0], fi.Mode(), err)
		}
	}
}

// TestExtractBombs: bytes, files and the ratio are bounded, and so is the memory.
func TestExtractBombs(t *testing.T) {
	large := strings.Repeat("\x00", 64<<20)
	size := task.Size(100)
	var many, deep []entry
	for i := range 1_100 {
		many = append(many, entry{name: fmt.Sprint("d/", i)})
	}
	for i := range 6 {
		deep = append(deep, entry{name: fmt.Sprint(i, strings.Repeat("/a", 200), "/f")}) // 6 entries, 1,200 directories
	}
	for what, c := range map[string]struct {
		name, archive string
		table         task.Table
		says          string
	}{
		"1000:1 in zip":          {"a.zip", zipOf(t, entry{name: "x", content: large}), task.Table{}, "max_ratio"},
		"1000:1 in tar.gz":       {"a.tar.gz", zip1(t, gzipFormat, tarOf(t, entry{name: "x", content: large})), task.Table{}, "max_ratio"},
		"1000:1 in tar.zst":      {"a.tar.zst", zip1(t, zstdFormat, tarOf(t, entry{name: "x", content: large})), task.Table{}, "max_ratio"},
		"bytes":                  {"a.tar", tarOf(t, entry{name: "x", content: large[:101]}), task.Table{MaxSize: &size}, "max_size"},
		"bytes of several":       {"a.zip", zipOf(t, entry{name: "x", content: large[:60]}, entry{name: "y", content: large[:60]}), task.Table{MaxSize: &size}, "max_size"},
		"files in tar":           {"a.tar", tarOf(t, many...), task.Table{MaxFiles: 1000}, "max_files"},
		"files in zip":           {"a.zip", zipOf(t, many...), task.Table{MaxFiles: 1000}, "max_files"},
		"directories of no name": {"a.tar", tarOf(t, deep...), task.Table{MaxFiles: 1000}, "max_files"},
		"a bomb after its end":   {"a.tar.gz", zip1(t, gzipFormat, tarOf(t, entry{name: "x", kind: tar.TypeReg, content: large})), task.Table{MaxFiles: 1}, "max_ratio"},
	} {
		o, err := extract(t, c.name, c.archive, c.table)
		if fault.KindOf(err) != fault.QuotaExceeded || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", what, err)
		}
		untouched(t, what, o, c.name, c.archive)
	}
}

// zip1 compresses a text.
func zip1(t testing.TB, format, text string) string {
	t.Helper()
	var b bytes.Buffer
	z, err := compressor(format, &b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestExtractMillion: a million entries are refused without being remembered.
func TestExtractMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("a million entries, in -short")
	}
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range 1_000_000 {
		if _, err := w.CreateRaw(&zip.FileHeader{Name: fmt.Sprintf("%x", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	archive := b.String()
	runtime.GC()
	var before, after runtime.MemStats
	o := tasktest.On(t, "a.zip", archive)
	runtime.ReadMemStats(&before)
	_, err := step(t, task.Table{Task: "extract", To: "x"}).Run(t.Context(), o)
	runtime.ReadMemStats(&after)
	if fault.KindOf(err) != fault.QuotaExceeded || !strings.Contains(err.Error(), "max_files") {
		t.Error(err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("%d MiB were allocated", took>>20)
	}
	tasktest.Clean(t, o)
}

// TestExtractDamaged: an archive that is cut or damaged is Refused, and leaves nothing.
func TestExtractDamaged(t *testing.T) {
	text := strings.Repeat("0123456789", 1000)
	for name, whole := range map[string]string{
		"a.tar": tarOf(t, entry{name: "x", content: text}), "a.zip": zipOf(t, entry{name: "x", content: text}),
		"a.tar.gz": zip1(t, gzipFormat, tarOf(t, entry{name: "x", content: text})), "a.tar.zst": zip1(t, zstdFormat, tarOf(t, entry{name: "x", content: text})),
	} {
		for _, archive := range []string{whole[:len(whole)/2], "", "garbage", strings.Repeat("garbage", 1000)} {
			o, err := extract(t, name, archive, task.Table{})
			if kind := fault.KindOf(err); err == nil || kind != fault.Refused && kind != fault.Invalid {
				t.Errorf("%s of %d bytes: %v", name, len(archive), err)
			}
			untouched(t, name, o, name, archive)
		}
	}
}

// TestExtractTaken: a directory that is there already is neither replaced nor added to,
// and no error if it is the same; what a crash has left is.
func TestExtractTaken(t *testing.T) {
	archive := tarOf(t, entry{name: "x", content: "1"}, entry{name: "d/y", content: "2"})
	at := func(prepare map[string]string) error {
		o := tasktest.On(t, "a.tar", archive)
		for name, text := range prepare {
			path := filepath.Join(o.Root.Name(), name)
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		temp, err := task.TempName(o, tasktest.Name(t, "a"))
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Root.MkdirAll(temp.String()+"/half", 0o777); err != nil {
			t.Fatal(err)
		}
		_, err = step(t, task.Table{Task: "extract"}).Run(t.Context(), o)
		tasktest.Clean(t, o)
		for name, text := range prepare {
			if got := tasktest.Content(t, o, name); got != text {
				t.Errorf("%s is %q", name, got)
			}
		}
		return err
	}
	if err := at(map[string]string{"a/x": "1", "a/d/y": "2"}); err != nil {
		t.Errorf("the same: %v", err)
	}
	for what, prepare := range map[string]map[string]string{
		"other content": {"a/x": "7", "a/d/y": "2"}, "one more": {"a/x": "1", "a/d/y": "2", "a/z": "3"}, "one less": {"a/x": "1"},
		"longer": {"a/x": "11", "a/d/y": "2"}, "a file": {"a": "text"}, "a file for a directory": {"a/x": "1", "a/d": "2"},
	} {
		if err := at(prepare); fault.KindOf(err) != fault.Exists {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestExtractMany: thousands of files, durable.
func TestExtractMany(t *testing.T) {
	var many []entry
	for i := range 1_000 {
		many = append(many, entry{name: fmt.Sprintf("%d/%d", i%50, i), content: "x"})
	}
	o, err := extract(t, "a.tar", tarOf(t, many...), task.Table{})
	if err != nil || tasktest.Content(t, o, "to/dir/49/999") != "x" {
		t.Error(err)
	}
}

// TestExtractTime: a modification time that no file can have does no harm.
func TestExtractTime(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg, ModTime: time.Unix(1<<40, 0), Format: tar.FormatPAX}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	o, err := extract(t, "a.tar", b.String(), task.Table{})
	if err != nil && fault.KindOf(err) == fault.Internal {
		t.Error(err)
	}
	tasktest.Clean(t, o)
}

// FuzzExtract: whatever is in an archive, nothing is outside of its directory and nothing
// panics.
func FuzzExtract(f *testing.F) {
	f.Add([]byte(tarOf(f, entry{name: "a", content: "x"}, entry{name: "../b"})), false)
	f.Add([]byte(zipOf(f, entry{name: "a", content: "x"}, entry{name: "../b"})), true)
	f.Fuzz(func(t *testing.T, archive []byte, zipped bool) {
		name := "in/a.tar"
		if zipped {
			name = "in/a.zip"
		}
		o := tasktest.On(t, name, string(archive))
		_, err := step(t, task.Table{Task: "extract", To: "to/dir", MaxFiles: 50}).Run(t.Context(), o)
		tasktest.Clean(t, o)
		if _, there := o.Root.Stat("to/dir"); (there == nil) != (err == nil) {
			t.Errorf("%v, and the directory: %v", err, there)
		}
	})
}
