package s3

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/s3server"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestPartSize: 10,000 parts suffice for any size, and none is below what S3 takes.
func TestPartSize(t *testing.T) {
	for _, mib := range []int64{5, 8, 64} {
		c := &config{part: mib << 20}
		for _, size := range []int64{-1, 0, 1, mib << 20, 80_000 << 20, 80_000<<20 + 1, 1 << 40, 1<<40 + 12345, maxSize} {
			part := c.partSize(size)
			if part < c.part || part > 5<<30 || part%(1<<20) != 0 || size > part*maxParts || part > c.part && size <= (part-1<<20)*maxParts-maxParts<<20 {
				t.Errorf("%d MiB for %d bytes: parts of %d", mib, size, part)
			}
		}
	}
	u := &staged{size: -1, base: 8 << 20}
	var all int64
	for n := range maxParts {
		all += u.most(n + 1)
	}
	if all < 480<<30 || u.most(maxParts) != 128<<20 {
		t.Errorf("%d bytes of unknown size, the last part has %d", all, u.most(maxParts))
	}
}

// TestMemory: a write holds no more than it says, however slow the server is.
func TestMemory(t *testing.T) {
	for _, c := range []struct {
		name, part, parallel string
		size, most           int64
	}{
		{"unknown size", "8", "4", -1, memory},
		{"known size", "8", "4", 1 << 40, 105 << 20}, // one part, larger than the memory
		{"many lanes", "8", "16", 10 << 30, memory},
		{"large parts", "64", "4", 10 << 30, 64 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			s := opens(t, f.endpoint("part-size", c.part, "parallel", c.parallel, "timeout", "1h"))
			quiet := make(chan struct{})
			defer close(quiet)
			f.mu.Lock()
			f.hook = func(op string, _ http.ResponseWriter, _ *http.Request) bool {
				if op == "UploadPart" {
					<-quiet
				}
				return op == "UploadPart"
			}
			f.mu.Unlock()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			st, err := s.Write(ctx, "/a", plugins.WriteRequest{Size: c.size})
			if err != nil {
				t.Fatal(err)
			}
			var n atomic.Int64
			go func() { // when nothing more has been taken for a while, it is over
				for taken, since := int64(-1), time.Now(); time.Since(since) < 700*time.Millisecond || taken < c.most/2; time.Sleep(10 * time.Millisecond) {
					if now := n.Load(); now != taken {
						taken, since = now, time.Now()
					}
				}
				cancel()
			}()
			for piece := make([]byte, 1<<20); err == nil; {
				var k int
				k, err = st.Write(piece)
				n.Add(int64(k))
			}
			isKind(t, err, fault.Canceled)
			if n := n.Load(); n > c.most {
				t.Errorf("%d MiB were taken, the bound is %d", n>>20, c.most>>20)
			}
			if _, err := st.Abort(t.Context(), false); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMemoryOfAll: all files of a server together hold no more than its share, whatever their
// sessions; who waits goes on when there is room again, those of another server have theirs, and nothing is
// held when all are over.
func TestMemoryOfAll(t *testing.T) {
	f := newFake(t)
	const part, files, atOnce = 64 << 20, 12, common / 2 / (64 << 20)
	begun := make(chan plugins.Staged, files+1)
	begin := func(f *fake, name string) {
		s := opens(t, f.endpoint("part-size", "64"))
		st, err := s.Write(t.Context(), name, plugins.WriteRequest{Size: part})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if _, err := st.Write(make([]byte, 1)); err != nil {
				t.Error(err)
			}
			begun <- st
		}()
	}
	for i := range files {
		begin(f, fmt.Sprint("/", i))
	}
	var all []plugins.Staged
	waiting := files - atOnce
	for range atOnce {
		all = append(all, <-begun)
	}
	select {
	case st := <-begun:
		t.Error("one more has begun than there is room for")
		all, waiting = append(all, st), waiting-1
	case <-time.After(100 * time.Millisecond):
	}
	begin(newFake(t), "/other")
	select {
	case st := <-begun:
		if _, err := st.Abort(t.Context(), false); err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("another server has no room")
	}
	for len(all) > 0 { // each makes room for one that waits
		if _, err := all[0].Abort(t.Context(), false); err != nil {
			t.Error(err)
		}
		if all = all[1:]; waiting > 0 {
			all, waiting = append(all, <-begun), waiting-1
		}
	}
	room.empty(t)
}

// TestNotSeen: parts of a large file are at the server, and nobody sees them before Commit.
func TestNotSeen(t *testing.T) {
	f := s3server.Start(t, false)
	s := opens(t, endpoint(f))
	b := randomBytes(30 << 20)
	st := begins(t, s, "/dir/a", int64(len(b)), nil, b)
	st.on.Wait()
	if n := len(st.parts()); n != 3 {
		t.Fatalf("the server has %d parts", n)
	}
	_, err := s.Stat(t.Context(), "/dir/a")
	isKind(t, err, fault.NotFound)
	for a, err := range s.List(t.Context(), "/") {
		if a.Name != "" || fault.KindOf(err) != fault.NotFound && err != nil {
			t.Errorf("%+v, %v", a, err)
		}
	}
	first, err := st.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := st.Commit(t.Context()); err != nil || again != first {
		t.Errorf("%+v, %v; first it was %+v", again, err, first)
	}
	holds(t, f, "dir/a", b)
	o, err := s.head(t.Context(), "dir/a")
	if err != nil || o.ChecksumMode != "FULL_OBJECT" || o.ChecksumCRC32C == "" {
		t.Errorf("the server states no checksum of the whole file: %+v, %v", o, err)
	}
}

// TestResume: the rest of a file, in another session, from the last byte that was given;
// known by the parts that the server has.
func TestResume(t *testing.T) {
	f := s3server.Start(t, false)
	b := randomBytes(30 << 20)
	for _, c := range []struct {
		name   string
		size   int64
		first  int
		offset int64
	}{
		{"whole parts and more", int64(len(b)), 20 << 20, 20 << 20},
		{"whole parts", int64(len(b)), 16 << 20, 16 << 20},
		{"less than a part", int64(len(b)), 1 << 20, 1 << 20},
		{"unknown size", -1, 20<<20 + 1, 20<<20 + 1},
		{"nothing", int64(len(b)), 0, 0},
		{"all", int64(len(b)), len(b), int64(len(b))},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := opens(t, endpoint(f))
			st := begins(t, s, "/d/a", c.size, nil, b[:c.first])
			kept, err := st.Abort(t.Context(), true)
			if err != nil || len(kept) > plugins.MaxResume {
				t.Fatalf("%s, %v", kept, err)
			}
			if again, err := st.Abort(t.Context(), true); err != nil || !bytes.Equal(again, kept) {
				t.Errorf("%s, %v; first it was %s", again, err, kept)
			}
			_, err = s.Stat(t.Context(), "/d/a")
			isKind(t, err, fault.NotFound)
			for a, err := range s.List(t.Context(), "/d") {
				if a.Name != "" || err != nil && fault.KindOf(err) != fault.NotFound {
					t.Errorf("%+v is listed, %v", a, err)
				}
			}
			s = opens(t, endpoint(f))
			st = begins(t, s, "/d/a", c.size, kept, nil)
			if st.Offset() != c.offset {
				t.Fatalf("it goes on at %d, not at %d", st.Offset(), c.offset)
			}
			if _, err := st.Write(b[st.Offset():]); err != nil {
				t.Fatal(err)
			}
			if a, err := st.Commit(t.Context()); err != nil || a.Size != int64(len(b)) {
				t.Fatalf("%+v, %v", a, err)
			}
			holds(t, f, "d/a", b)
			leaves(t, f, "d/a")
			if err := s.Remove(t.Context(), "/d/a"); err != nil {
				t.Error(err)
			}
		})
	}
}

// leaves fails if there are other files in the bucket than that, or uploads.
func leaves(t *testing.T, f *s3server.Server, name string) {
	t.Helper()
	_ = filepath.WalkDir(f.Data, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path != filepath.Join(f.Data, name) {
			t.Errorf("%s is left", path)
		}
		return err
	})
}

// TestResumeOther: what the server has is not what was sent. Then the file begins anew,
// or where that is still so.
func TestResumeOther(t *testing.T) {
	b := randomBytes(30 << 20)
	for name, c := range map[string]struct {
		change func(f *fake, k *token)
		offset int64
	}{
		"nothing changed":         {func(*fake, *token) {}, 20 << 20},
		"another part":            {func(f *fake, k *token) { f.uploads["bucket/a?"+k.Upload][2] = newObject(b[:8<<20]) }, 0},
		"a part less":             {func(f *fake, k *token) { delete(f.uploads["bucket/a?"+k.Upload], 1) }, 0},
		"a part more":             {func(f *fake, k *token) { f.uploads["bucket/a?"+k.Upload][3] = newObject(b[:9]) }, 20 << 20},
		"the upload is gone":      {func(f *fake, k *token) { delete(f.uploads, "bucket/a?"+k.Upload) }, 0},
		"another tail":            {func(f *fake, k *token) { f.puts(k.Tail.key("a"), make([]byte, k.Tail.Size)) }, 16 << 20},
		"a longer tail":           {func(f *fake, k *token) { f.puts(k.Tail.key("a"), make([]byte, k.Tail.Size+1)) }, 16 << 20},
		"the tail is gone":        {func(f *fake, k *token) { delete(f.objects, "bucket/"+k.Tail.key("a")) }, 16 << 20},
		"the token is of another": {func(f *fake, k *token) { k.Sum = strings.Repeat("0", 32) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			kept, err := begins(t, opens(t, f.endpoint()), "/a", int64(len(b)), nil, b[:20<<20]).Abort(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			var k token
			if err := json.Unmarshal(kept, &k); err != nil {
				t.Fatal(err)
			}
			c.change(f, &k)
			kept, _ = k.bytes()
			st := begins(t, opens(t, f.endpoint()), "/a", int64(len(b)), kept, nil)
			if st.Offset() != c.offset {
				t.Fatalf("it goes on at %d, not at %d", st.Offset(), c.offset)
			}
			if _, err := st.Write(b[st.Offset():]); err != nil {
				t.Fatal(err)
			}
			if _, err := st.Commit(t.Context()); err != nil || !bytes.Equal(f.has("a"), b) {
				t.Errorf("%d bytes, %v", len(f.has("a")), err)
			}
			if len(f.uploads) != 0 || len(f.objects) != 1 {
				t.Errorf("%d uploads and %d objects are left", len(f.uploads), len(f.objects))
			}
		})
	}
}

// TestChangedBeforeResume: parts that have the right ETags, and other bytes, are found at
// the end, because the checksum of all is of what was sent.
func TestChangedBeforeResume(t *testing.T) {
	f := newFake(t)
	b := randomBytes(20 << 20)
	kept, err := begins(t, opens(t, f.endpoint()), "/a", int64(len(b)), nil, b[:17<<20]).Abort(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, parts := range f.uploads {
		parts[1].b = bytes.Clone(parts[1].b)
		parts[1].b[5] ^= 1
	}
	st := begins(t, opens(t, f.endpoint()), "/a", int64(len(b)), kept, nil)
	if _, err := st.Write(b[st.Offset():]); err != nil {
		t.Fatal(err)
	}
	_, err = st.Commit(t.Context())
	isKind(t, err, fault.Corrupt, "BadDigest")
}

// TestNoToken: what is none is an error, and no panic.
func TestNoToken(t *testing.T) {
	s := opens(t, newFake(t).endpoint())
	for _, k := range []string{"", "x", "{}", "null", `{"base":-1}`, `{"base":8388608,"parts":3}`, `{"base":8388608,"parts":99999,"upload":"x"}`,
		`{"base":8388608,"tail":{"id":"../x","size":1}}`, `{"base":8388608,"tail":{"id":"0123456789abcdef","size":-1}}`, `{"base":9223372036854775807,"upload":"x","parts":1}`} {
		_, err := s.Write(t.Context(), "/a", plugins.WriteRequest{Size: 5, Resume: []byte(k)})
		isKind(t, err, fault.Invalid, "begin the file anew")
	}
}

// TestAborted: nothing is left of a file that is given up, whatever was on its way.
func TestAborted(t *testing.T) {
	f := s3server.Start(t, false)
	s := opens(t, endpoint(f))
	st := begins(t, s, "/a", -1, nil, randomBytes(60<<20))
	for range 2 {
		if _, err := st.Abort(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.Write([]byte("x")); err == nil {
		t.Error("it is written after Abort")
	}
	_, err := st.Commit(t.Context())
	isKind(t, err, fault.Stale)
	leaves(t, f, "")
	if all, err := s.core.ListMultipartUploads(t.Context(), s3server.Bucket, "", "", "", "", 10); err != nil || len(all.Uploads) != 0 {
		t.Errorf("%d uploads are left, %v", len(all.Uploads), err)
	}
}

// TestLengths: more or fewer bytes than announced are published in no case.
func TestLengths(t *testing.T) {
	for _, size := range []int64{2, 9 << 20} {
		for _, by := range []int64{-1, 1} {
			f := newFake(t)
			st, err := opens(t, f.endpoint()).Write(t.Context(), "/a", plugins.WriteRequest{Size: size + by})
			if err != nil {
				t.Fatal(err)
			}
			_, err = st.Write(make([]byte, size))
			if by < 0 && err == nil {
				t.Error("too many bytes are taken")
			}
			if err == nil {
				_, err = st.Commit(t.Context())
			}
			if _, err := st.Abort(t.Context(), false); err != nil {
				t.Error(err)
			}
			isKind(t, err, fault.Corrupt, "announced")
			if f.has("a") != nil || len(f.uploads) != 0 {
				t.Errorf("something is there: %d bytes, %d uploads", len(f.has("a")), len(f.uploads))
			}
		}
	}
}

// TestAbortedLate: a server may store a part, and the upload with it, after the upload was given up, if that
// part was under way: it is told again.
func TestAbortedLate(t *testing.T) {
	f := newFake(t)
	var aborts atomic.Int32
	f.hook = func(op string, w http.ResponseWriter, r *http.Request) bool {
		switch op {
		case "UploadPart":
			_, _ = io.Copy(io.Discard, r.Body) // else nobody sees that the request is given up
			<-r.Context().Done()
			return true
		case "AbortMultipartUpload":
			if aborts.Add(1) == 1 { // the part comes now
				w.WriteHeader(http.StatusNoContent)
				return true
			}
		}
		return false
	}
	st := begins(t, opens(t, f.endpoint()), "/a", -1, nil, randomBytes(20<<20))
	for len(st.lanes) == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := st.Abort(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.uploads) != 0 {
		t.Errorf("%d uploads are left after %d words", len(f.uploads), aborts.Load())
	}
}
