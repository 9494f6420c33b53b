package boltstore

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// A golden store is as a node of that format has left it when it was killed: the file, and the
// log with what is not in it yet. They are never made again; a new format adds one.
var updateGolden = flag.Bool("boltstore.golden", false, "make the golden store of this format, if there is none")

const goldenText = "testdata/golden.txt" // what is in each of them

func goldenFile(f int) string { return fmt.Sprintf("testdata/format-%d.zip", f) }

// TestGoldenStores: a store of each format that there was is opened, and has what was put there.
func TestGoldenStores(t *testing.T) {
	if *updateGolden {
		makeGolden(t)
	}
	want, err := os.ReadFile(goldenText)
	if err != nil {
		t.Fatal(err)
	}
	for f := 1; f <= format; f++ {
		t.Run(fmt.Sprint("format ", f), func(t *testing.T) {
			path := unpacked(t, f)
			if is, err := formatOf(path); err != nil || int(is) != f {
				t.Fatalf("format %d, %v", is, err)
			}
			s, err := Open(Config{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			if is := told(t, s); is != string(want) {
				t.Errorf("want\n%s\nis\n%s", want, is)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := Verify(path); err != nil {
				t.Error(err)
			}
			if f < format {
				if is, err := formatOf(fmt.Sprintf("%s.format-%d", path, f)); err != nil || int(is) != f {
					t.Errorf("the file as it was: format %d, %v", is, err)
				}
			}
		})
	}
}

// TestNewerStore: what a later version has written is refused, and not touched.
func TestNewerStore(t *testing.T) {
	path := unpacked(t, format)
	setFormat(t, path, format+1, nil)
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(Config{Path: path})
	if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "use the version that wrote it") {
		t.Error(err)
	}
	if is, err := os.ReadFile(path); err != nil || !bytes.Equal(is, was) {
		t.Error("it was changed", err)
	}
}

const (
	migrateEnv    = "PANNIER_TEST_MIGRATE" // the store that a child opens
	killedRecords = 3000
)

// TestMigrateKilled: a process that brings a store to this format is killed at any time. The next
// one finds all that was there, and the file as it was beside it.
func TestMigrateKilled(t *testing.T) {
	if path := os.Getenv(migrateEnv); path != "" {
		s, err := Open(Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	image, err := os.ReadFile(older(t, killedRecords))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(score.Seed(), 29))
	whole, within, n := time.Duration(0), 0, score.N(8)
	for i := range n + 1 {
		path := filepath.Join(t.TempDir(), "store")
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		child := exec.Command(os.Args[0], "-test.run=^TestMigrateKilled$")
		child.Env = append(os.Environ(), migrateEnv+"="+path)
		began := time.Now()
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if i > 0 { // the first shows how long it takes
			time.Sleep(time.Duration(r.Int64N(int64(whole))))
			_ = child.Process.Kill()
		}
		err := child.Wait()
		if i == 0 {
			whole = time.Since(began)
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(path + ".migrating"); err == nil {
			within++
		}
		s, err := Open(Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		for _, partner := range []string{"a", "ab", "b"} {
			if ids := of(t, s, partner); len(ids) != killedRecords/3 {
				t.Errorf("%d of %s", len(ids), partner)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Verify(path); err != nil {
			t.Error(err)
		}
		if kept, err := os.ReadFile(path + ".format-1"); err != nil || !bytes.Equal(kept, image) {
			t.Errorf("the file as it was is not beside it: %v", err)
		}
	}
	score.Report(t, float64(n), fmt.Sprintf("%d of them while the copy was changed, which takes most of %v; stores of %d formats", within, whole.Round(time.Millisecond), format))
}

// goldenTime is when request i happened.
func goldenTime(i int) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC).Add(time.Duration(i) * time.Hour)
}

// makeGolden makes what has no golden store yet. Those of the first two formats are this one's, taken back.
func makeGolden(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	s, err := Open(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 24 {
		k := lifecycle.Key{Requester: []string{"hosta", "hostb"}[i%2], ID: lifecycle.ID{1, byte(i)}}
		r, err := lifecycle.Register(k, []lifecycle.Side{lifecycle.Sender, lifecycle.Receiver}[i/2%2], lifecycle.Spec{Partner: fmt.Sprint("host", i%3), Rule: "invoices", Follow: k.ID, Info: fmt.Sprint("number ", i)}, goldenTime(i))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Register(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		apply := func(events ...lifecycle.Event) {
			if _, err := s.Apply(t.Context(), store.RefOf(&r), goldenTime(i+1), events...); err != nil {
				t.Fatal(i, err)
			}
		}
		if i%4 == 3 {
			continue
		}
		apply(lifecycle.Claim{Epoch: 5})
		last := lifecycle.Finished
		if i%4 == 2 {
			last = lifecycle.Pre
		}
		for p := lifecycle.Pre; p <= last; p++ {
			apply(lifecycle.Advance{Epoch: 5, To: p, Size: int64(i) << 20, Rank: int64(i) << 20})
		}
		if last == lifecycle.Finished {
			apply(lifecycle.Conclude{Epoch: 5})
		}
		if i == 16 { // the rest is in the log only
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = Open(Config{Path: path}); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer s.Close()
	pack(t, path, format)
	if err := os.WriteFile(goldenText, []byte(told(t, s)), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{".log-0", ".log-1"} {
		if err := os.Remove(path + suffix); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	setFormat(t, path, 2, func(meta *bbolt.Bucket) {
		if meta.Delete(storeKey) != nil || meta.Delete(foldedKey) != nil {
			t.Fatal("meta")
		}
	})
	pack(t, path, 2)
	setFormat(t, path, 1, func(meta *bbolt.Bucket) {
		if err := meta.Tx().DeleteBucket(buckets[inPartners]); err != nil {
			t.Fatal(err)
		}
	})
	pack(t, path, 1)
}

func setFormat(t *testing.T, path string, f uint32, also func(meta *bbolt.Bucket)) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		if also != nil {
			also(tx.Bucket(buckets[inMeta]))
		}
		return tx.Bucket(buckets[inMeta]).Put(formatKey, binary.BigEndian.AppendUint32(nil, f))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// told is all that a store has, in lines.
func told(t *testing.T, s *Store) string {
	t.Helper()
	var lines []string
	for r, err := range s.Find(t.Context(), store.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		events, err := s.Events(t.Context(), store.RefOf(&r))
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%s %s %v %v %v %v %q size %d changed %s:", r.Key.Requester, r.Key.ID, r.Side, r.Spec.Partner, r.State, r.Phase, r.Spec.Info, r.Size, r.Changed.UTC().Format(time.RFC3339Nano))
		for _, e := range events {
			line += fmt.Sprintf(" %s %s %v,", e.At.UTC().Format("15:04"), e.Event, e.Phase)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n") + "\n"
}

// pack keeps the files of a store as the golden one, if there is none.
func pack(t *testing.T, path string, f int) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(goldenFile(f), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if os.IsExist(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	z := zip.NewWriter(out)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		w, err := z.Create(filepath.Base(file))
		if err == nil {
			_, err = w.Write(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}

// unpacked is where the golden store of a format is, as files.
func unpacked(t *testing.T, f int) string {
	t.Helper()
	z, err := zip.OpenReader(goldenFile(f))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	dir := t.TempDir()
	for _, file := range z.File {
		r, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file.Name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "store")
}
