package pack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/engine/task/tasktest"
	"github.com/pannier/pannier/spec/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func step(t testing.TB, table task.Table) task.Step { return tasktest.Step(t, Tasks(), table) }

// run runs a task that is done, twice, as after a crash in the middle of the first; the
// request's file is then as the second says.
func run(t testing.TB, o *task.On, table task.Table) {
	t.Helper()
	s, first := step(t, table), o.File
	var res task.Result
	for n := range 2 {
		o.File, o.Again = first, n > 0
		var err error
		if res, err = s.Run(t.Context(), o); err != nil {
			t.Fatalf("%s, run %d: %v", table.Task, n, err)
		}
	}
	if o.Again = false; res.Moved {
		o.File = res.File
	}
	tasktest.Clean(t, o)
}

// command runs a program in the root.
func command(t testing.TB, o *task.On, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = o.Root.Name()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// TestRefused: what cannot work is refused when it is read.
func TestRefused(t *testing.T) {
	minus := task.Size(-1)
	tasktest.Refused(t, Tasks(), map[string]task.Table{
		"tar, tar.gz, tar.zst or zip":    {Task: "archive", To: "x.rar"},
		"tar, tar.gz, tar.zst or zip #2": {Task: "extract", Format: "rar"},
		"not for path":                   {Task: "archive", To: "x.zip", Path: "a", Remove: true},
		"gzip or zstd":                   {Task: "compress", Format: "bzip2"},
		"gzip or zstd #2":                {Task: "decompress", Format: "xz"},
		"max_ratio":                      {Task: "decompress", MaxRatio: -1},
		"max_size":                       {Task: "extract", MaxSize: &minus},
		"max_files":                      {Task: "extract", MaxFiles: -1},
		"no variable {nome}":             {Task: "extract", To: "{nome}"},
		"set to":                         {Task: "transcode", Decode: "latin1"},
		"what to change":                 {Task: "transcode", To: "x"},
		"no character set":               {Task: "transcode", To: "x", Decode: "klingon"},
		"lf, crlf, cr or nel":            {Task: "transcode", To: "x", Newline: "nl"},
	})
}

// TestCompress: what is compressed, gzip and zstd read, and what they have compressed is
// read here; the source goes only if that is asked for.
func TestCompress(t *testing.T) {
	var lines strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&lines, "line %x\n", i*i)
	}
	text := lines.String()
	for format, ext := range extensions {
		o := tasktest.On(t, "in/a.dat", text)
		run(t, o, task.Table{Task: "compress", Format: format, Remove: true})
		if o.File.String() != "in/a.dat"+ext || tasktest.Content(t, o, "in/a.dat") != "no file" {
			t.Errorf("%s: the file is %v", format, o.File)
		}
		if format == gzipFormat {
			if out := command(t, o, "gzip", "-dc", o.File.String()); out != text {
				t.Errorf("gzip reads %d bytes", len(out))
			}
		}
		run(t, o, task.Table{Task: "decompress"})
		if o.File.String() != "in/a.dat" || tasktest.Content(t, o, "in/a.dat") != text {
			t.Errorf("%s: the file is %v", format, o.File)
		}
	}
	o := tasktest.On(t, "a", text)
	command(t, o, "gzip", "-k", "a")
	o.File = tasktest.Name(t, "a.gz")
	run(t, o, task.Table{Task: "decompress", To: "b"})
	if tasktest.Content(t, o, "b") != text {
		t.Error("what gzip has compressed is not read")
	}
	if _, err := step(t, task.Table{Task: "compress", To: o.File.String()}).Run(t.Context(), o); fault.KindOf(err) != fault.Invalid {
		t.Errorf("onto itself: %v", err)
	}
	if _, err := step(t, task.Table{Task: "compress", To: "{error.text}/x"}).Run(t.Context(), o); fault.KindOf(err) != fault.Invalid {
		t.Errorf("out of the root: %v", err)
	}
}

// packed is zeros, compressed: a bomb if there are many.
func packed(t testing.TB, format string, n int64) string {
	t.Helper()
	var b bytes.Buffer
	z, err := compressor(format, &b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(z, zeros{}, n); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestDecompressHostile: bombs, cut and damaged streams leave nothing.
func TestDecompressHostile(t *testing.T) {
	size := task.Size(1 << 20)
	for name, c := range map[string]struct {
		content string
		table   task.Table
		kind    fault.Kind
	}{
		"a bomb of gzip":        {packed(t, gzipFormat, 100<<20), task.Table{}, fault.QuotaExceeded},
		"a bomb of zstd":        {packed(t, zstdFormat, 100<<20), task.Table{}, fault.QuotaExceeded},
		"a bomb that is wanted": {packed(t, gzipFormat, 100<<20), task.Table{MaxRatio: 2000}, 0},
		"small zeros":           {packed(t, gzipFormat, 1<<20), task.Table{}, 0},
		"too large":             {packed(t, gzipFormat, 1<<20+1), task.Table{MaxSize: &size, MaxRatio: 2000}, fault.QuotaExceeded},
		"cut gzip":              {packed(t, gzipFormat, 1000)[:20], task.Table{}, fault.Refused},
		"cut zstd":              {packed(t, zstdFormat, 100_000)[:12], task.Table{}, fault.Refused},
		"damaged":               {packed(t, gzipFormat, 1000) + "garbage", task.Table{}, fault.Refused},
		"plain":                 {"plain text", task.Table{}, fault.Invalid},
		"empty":                 {"", task.Table{}, fault.Invalid},
		"another format":        {packed(t, gzipFormat, 1000), task.Table{Format: "zstd"}, fault.Refused},
		"a window of 2 GiB":     {"\x28\xb5\x2f\xfd\x00\xa8" + strings.Repeat("\x00", 100), task.Table{}, fault.Refused},
	} {
		o := tasktest.On(t, "a", c.content)
		c.table.Task, c.table.To, c.table.Remove = "decompress", "b", true
		_, err := step(t, c.table).Run(t.Context(), o)
		if (err == nil) != (c.kind == 0) || err != nil && fault.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
		if c.kind != 0 && (tasktest.Content(t, o, "b") != "no file" || tasktest.Content(t, o, "a") != c.content) {
			t.Errorf("%s: something was made, or the source is gone", name)
		}
		tasktest.Clean(t, o)
	}
}

// TestStopped: a task that is told to end leaves nothing, and says so.
func TestStopped(t *testing.T) {
	for _, table := range []task.Table{{Task: "compress"}, {Task: "archive", To: "x.tar.zst"}, {Task: "transcode", To: "x", Newline: "lf"}} {
		o := tasktest.On(t, "a", strings.Repeat("text\n", 1<<20))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := step(t, table).Run(ctx, o); fault.KindOf(err) != fault.Canceled {
			t.Errorf("%s: %v", table.Task, err)
		}
		if all, err := os.ReadDir(o.Root.Name()); err != nil || len(all) != 1 {
			t.Errorf("%s has left %v, %v", table.Task, all, err)
		}
	}
}

// TestTranscode: character sets and line ends, and no character that is lost in silence.
func TestTranscode(t *testing.T) {
	long := strings.Repeat("naïve ", 20_000)
	for name, c := range map[string]struct {
		from, want string
		table      task.Table
		kind       fault.Kind
	}{
		"latin to utf-8":         {"caf\xe9", "café", task.Table{Decode: "iso-8859-1"}, 0},
		"utf-8 to euro":          {"5 €", "5 \xa4", task.Table{Encode: "iso-8859-15"}, 0},
		"ebcdic":                 {"\xc8\x85\x93\x93\x96", "Hello", task.Table{Decode: "IBM037"}, 0},
		"ebcdic 1047":            {"\xad\xbd", "[]", task.Table{Decode: "IBM1047"}, 0},
		"utf-16":                 {"a\x00\xac\x20", "a€", task.Table{Decode: "utf-16le"}, 0},
		"newlines":               {"a\r\nb\rc\nd\r\n\r", "a\nb\nc\nd\n\n", task.Table{Newline: "lf"}, 0},
		"newlines of windows":    {"a\nb\r\n", "a\r\nb\r\n", task.Table{Newline: "crlf"}, 0},
		"both":                   {"a\xe9\r\n", "aé\n", task.Table{Decode: "windows-1252", Newline: "lf"}, 0},
		"lines of ebcdic":        {"\xc1\x15\xc2\x25\xc3\r\x15", "A\nB\nC\n\n", task.Table{Decode: "IBM1047", Newline: "lf"}, 0},
		"lines for ebcdic":       {"A\r\nB\n", "\xc1\x15\xc2\x15", task.Table{Encode: "IBM037", Newline: "nel"}, 0},
		"long lines of ebcdic":   {strings.Repeat("\xc1\x15", 20_001), strings.Repeat("A\r\n", 20_001), task.Table{Decode: "IBM037", Newline: "crlf"}, 0},
		"no ebcdic":              {"a\x85b\n", "a\u0085b\n", task.Table{Decode: "iso-8859-1", Newline: "lf"}, 0},
		"long":                   {long, strings.ReplaceAll(long, "ï", "\xef"), task.Table{Encode: "latin1"}, 0},
		"not in the target":      {"5 €", "", task.Table{Encode: "iso-8859-1"}, fault.Invalid},
		"not of the source":      {"a\x81b", "", task.Table{Decode: "windows-1252"}, fault.Invalid},
		"not utf-8":              {"a\xffb", "", task.Table{Encode: "iso-8859-1"}, fault.Invalid},
		"not utf-8, with lines":  {"a\xff\n", "", task.Table{Newline: "crlf"}, fault.Invalid},
		"half a character":       {"a\xe2\x82", "", task.Table{Newline: "crlf"}, fault.Invalid},
		"half a word of utf-16":  {"a\x00b", "", task.Table{Decode: "utf-16le"}, fault.Invalid},
		"half a pair of utf-16":  {"\x00\xd8a\x00", "", task.Table{Decode: "utf-16le"}, fault.Invalid},
		"late and long, replace": {strings.Repeat("x", 9000) + "\x81", "", task.Table{Decode: "windows-1252"}, fault.Invalid},
	} {
		o := tasktest.On(t, "a", c.from)
		c.table.Task, c.table.To = "transcode", "b"
		if c.kind == 0 {
			run(t, o, c.table)
			if got := tasktest.Content(t, o, "b"); got != c.want || o.File.String() != "b" {
				t.Errorf("%s: %.40q, want %.40q", name, got, c.want)
			}
			continue
		}
		if _, err := step(t, c.table).Run(t.Context(), o); fault.KindOf(err) != c.kind || err == nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := tasktest.Content(t, o, "b"); got != "no file" {
			t.Errorf("%s: has made %q", name, got)
		}
		tasktest.Clean(t, o)
	}
}

// TestTranscodeSaysWhere: what cannot be transcoded is told with its line, and what it is.
func TestTranscodeSaysWhere(t *testing.T) {
	long := strings.Repeat("a line of some text\n", 2000)
	for from, c := range map[string]struct {
		table task.Table
		want  string
	}{
		long + "x \u20ac":   {task.Table{Encode: "iso-8859-1"}, `line 2001 has '\u20ac' (U+20AC), which the character set of encode has not`},
		"a\nb\xffc":         {task.Table{Newline: "crlf"}, "line 2 has a byte, 0xff, that is not UTF-8"},
		long + "\n\x81 z\n": {task.Table{Decode: "windows-1252"}, "line 2002 has bytes that are no character of decode"},
	} {
		o := tasktest.On(t, "a", from)
		c.table.Task, c.table.To = "transcode", "b"
		if _, err := step(t, c.table).Run(t.Context(), o); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), strings.ReplaceAll(c.want, `\u20ac`, "\u20ac")) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// TestArchive: what is packed, tar reads, and extract; directories
// with all that is in them, but for unfinished files of transfers.
func TestArchive(t *testing.T) {
	for format := range formats {
		o := tasktest.On(t, "in/a.dat", "content")
		if err := os.MkdirAll(filepath.Join(o.Root.Name(), "in/sub/empty"), 0o777); err != nil {
			t.Fatal(err)
		}
		at := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
		for name, mode := range map[string]os.FileMode{"in/sub/run": 0o755, "in/sub/.x.pannier-r0123456789abcdef": 0o644} {
			if err := os.WriteFile(filepath.Join(o.Root.Name(), name), []byte(name), mode); err != nil {
				t.Fatal(err)
			}
			if err := o.Root.Chtimes(name, at, at); err != nil {
				t.Fatal(err)
			}
		}
		run1 := func(table task.Table) {
			t.Helper()
			res, err := step(t, table).Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if res.Moved {
				o.File = res.File
			}
		}
		run1(task.Table{Task: "archive", To: "out/all." + format, Path: "in"})
		if o.File.String() != "out/all."+format {
			t.Errorf("the file is %v", o.File)
		}
		run1(task.Table{Task: "extract", To: "here"})
		run1(task.Table{Task: "extract", To: "here"})
		if a, r := tasktest.Content(t, o, "here/in/a.dat"), tasktest.Content(t, o, "here/in/sub/run"); a != "content" || r != "in/sub/run" {
			t.Errorf("%s: %q, %q", format, a, r)
		}
		if fi, err := o.Root.Stat("here/in/sub/run"); err != nil || fi.Mode().Perm()&0o100 == 0 || !fi.ModTime().Equal(at) {
			t.Errorf("%s: %v, %v", format, fi, err)
		}
		if fi, err := o.Root.Stat("here/in/sub/empty"); err != nil || !fi.IsDir() {
			t.Errorf("%s: %v", format, err)
		}
		if all, err := os.ReadDir(filepath.Join(o.Root.Name(), "here/in/sub")); err != nil || len(all) != 2 {
			t.Errorf("%s: %v, %v", format, all, err)
		}
		if strings.HasPrefix(format, "tar") && format != "tar.zst" {
			if out := command(t, o, "tar", "-tf", "out/all."+format); !strings.Contains(out, "in/sub/empty/\n") {
				t.Errorf("tar says %s", out)
			}
		}
		if err := o.Root.Remove("in/sub/.x.pannier-r0123456789abcdef"); err != nil {
			t.Fatal(err)
		}
		// One file, which goes when the archive is there, and comes back.
		o.File = tasktest.Name(t, "here/in/a.dat")
		run(t, o, task.Table{Task: "archive", To: "one." + format, Remove: true})
		archive := o.File
		run(t, o, task.Table{Task: "extract", To: "one", Remove: true})
		if got := tasktest.Content(t, o, "one/a.dat"); got != "content" || !o.File.IsZero() || tasktest.Content(t, o, "one."+format) != "no file" {
			t.Errorf("%s: %q, %v", format, got, o.File)
		}
		// What has removed it is an earlier run, or else another.
		for _, again := range []bool{false, true} {
			o.File, o.Again = archive, again
			if _, err := tasktest.Step(t, Tasks(), task.Table{Task: "extract", To: "one", Remove: true}).Run(t.Context(), o); (err == nil) != again || !again && fault.KindOf(err) != fault.NotFound {
				t.Errorf("%s: without its archive, again %v: %v", format, again, err)
			}
		}
		o.Again = false
	}
}

// TestArchiveZip: Python's zipfile reads what is packed.
func TestArchiveZip(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3: install the package python3")
	}
	o := tasktest.On(t, "in/a", strings.Repeat("content", 10_000))
	run(t, o, task.Table{Task: "archive", To: "a.zip"})
	if out := command(t, o, "python3", "-m", "zipfile", "-t", "a.zip"); !strings.Contains(out, "Done") {
		t.Errorf("zipfile says %s", out)
	}
}

// TestArchiveRefuses: links in a directory, and an archive in itself.
func TestArchiveRefuses(t *testing.T) {
	o := tasktest.On(t, "in/a", "content")
	if _, err := step(t, task.Table{Task: "archive", To: "in/x.tar", Path: "in"}).Run(t.Context(), o); fault.KindOf(err) != fault.Invalid {
		t.Errorf("in itself: %v", err)
	}
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(o.Root.Name(), "in/link")); err != nil {
		t.Fatal(err)
	}
	if _, err := step(t, task.Table{Task: "archive", To: "x.tar", Path: "in"}).Run(t.Context(), o); err == nil {
		t.Error("a link that leads out of the root was packed")
	}
	if _, err := step(t, task.Table{Task: "archive", To: "x.tar", Path: "../"}).Run(t.Context(), o); fault.KindOf(err) != fault.Invalid {
		t.Errorf("out of the root: %v", err)
	}
	tasktest.Clean(t, o)
}
