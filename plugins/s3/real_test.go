package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/pannier/pannier/flow/flowtest/s3server"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestMethods calls each method at a real server, below a base too.
func TestMethods(t *testing.T) {
	f := s3server.Start(t, false)
	for _, base := range []string{"", "/some/base"} {
		e := endpoint(f)
		e.URL += base
		s := opens(t, e)
		ctx := t.Context()
		if err := s.Mkdir(ctx, "/d ir"); err != nil {
			t.Fatal(err)
		}
		if err := s.Mkdir(ctx, "/d ir"); err != nil {
			t.Errorf("again: %v", err)
		}
		for range s.List(ctx, "/d ir") {
			t.Error("an empty directory has entries")
		}
		for _, n := range []int{0, 1, 300_000, 17 << 20} {
			b := randomBytes(n)
			a, err := write(ctx, s, "/d ir/f é+%.bin", int64(n), b)
			if err != nil || a.Size != int64(n) || a.Name != "/d ir/f é+%.bin" {
				t.Fatalf("%+v, %v", a, err)
			}
			holds(t, f, base+"/d ir/f é+%.bin", b)
			for _, offset := range []int{0, n / 2, n} {
				if got, err := reads(ctx, s, "/d ir/f é+%.bin", int64(offset)); err != nil || !bytes.Equal(got, b[offset:]) {
					t.Errorf("from %d: %d bytes, %v", offset, len(got), err)
				}
			}
			_, err = reads(ctx, s, "/d ir/f é+%.bin", int64(n+1))
			isKind(t, err, fault.Invalid)
			if a, err := s.Stat(ctx, "/d ir/f é+%.bin"); err != nil || a.Size != int64(n) || a.Dir || time.Since(a.Modified).Abs() > time.Hour {
				t.Errorf("%+v, %v", a, err)
			}
		}
		for _, dir := range []string{"/", "/d ir"} {
			if a, err := s.Stat(ctx, dir); err != nil || !a.Dir {
				t.Errorf("%+v, %v", a, err)
			}
		}
		if err := s.Mkdir(ctx, "/d ir/sub"); err != nil {
			t.Fatal(err)
		}
		isKind(t, s.Mkdir(ctx, "/d ir/f é+%.bin"), fault.Exists)
		var got []string
		for a, err := range s.List(ctx, "/d ir") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(a.Name, a.Dir))
		}
		if fmt.Sprint(got) != "[f é+%.binfalse subtrue]" {
			t.Errorf("%q", got)
		}
		isKind(t, s.Remove(ctx, "/d ir"), fault.Invalid, "not empty")
		isKind(t, s.Rename(ctx, "/d ir", "/other"), fault.Invalid, "directory")
		if err := s.Rename(ctx, "/d ir/f é+%.bin", "/moved"); err != nil {
			t.Fatal(err)
		}
		_, gone := s.Stat(ctx, "/d ir/f é+%.bin")
		isKind(t, gone, fault.NotFound)
		if got, err := reads(ctx, s, "/moved", 0); err != nil || !bytes.Equal(got, randomBytes(17<<20)) {
			t.Errorf("%d bytes were renamed, %v", len(got), err)
		}
		for _, name := range []string{"/moved", "/d ir/sub", "/d ir"} {
			if err := s.Remove(ctx, name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			isKind(t, s.Remove(ctx, name), fault.NotFound)
		}
		var err error
		for _, err = range s.List(ctx, "/d ir") {
		}
		isKind(t, err, fault.NotFound)
		isKind(t, s.Rename(ctx, "/none", "/b"), fault.NotFound)
		_, err = s.Stat(ctx, "/"+strings.Repeat("long/", 205)+"x")
		isKind(t, err, fault.TooLong)
	}
}

// TestLogin: whom the server does not know, and buckets that are not there.
func TestLogin(t *testing.T) {
	f := s3server.Start(t, false)
	for _, c := range []struct {
		change func(e *plugins.Endpoint)
		kind   fault.Kind
		has    string
	}{
		{func(e *plugins.Endpoint) { e.User = "nobody" }, fault.Unauthenticated, "correct the access key"},
		{func(e *plugins.Endpoint) { e.Password = "wrong" }, fault.Unauthenticated, "SignatureDoesNotMatch"},
		{func(e *plugins.Endpoint) { e.URL += "2" }, fault.NotFound, "NoSuchBucket"},
		{func(e *plugins.Endpoint) { e.Options["region"] = "eu-north-1" }, fault.Unauthenticated, "region"},
		{func(e *plugins.Endpoint) { e.URL = "s3" + strings.TrimPrefix(e.URL, "s3+http") }, fault.Protocol, "does not speak TLS"},
		{func(e *plugins.Endpoint) { e.URL = "s3+http://127.0.0.2:1/bucket" }, fault.Lost, "refused"},
	} {
		e := endpoint(f)
		c.change(&e)
		_, err := Driver{}.Open(t.Context(), e)
		isKind(t, err, c.kind, "s3 ListObjectsV2", c.has)
	}
}

// TestTLS: certificates are those of a file, or the pinned ones, and a server without TLS
// is none.
func TestTLS(t *testing.T) {
	f := s3server.Start(t, true)
	text, err := os.ReadFile(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.Raw)
	pin := hex.EncodeToString(sum[:])
	for _, c := range []struct {
		ca, pin string
		kind    fault.Kind
	}{{f.CA, "", 0}, {"", pin, 0}, {"", strings.Repeat("00", 32) + "," + pin, 0}, {"", "", fault.Unauthenticated}, {f.CA, strings.Repeat("00", 32), fault.Unauthenticated}} {
		e := endpoint(f)
		e.Options = map[string]string{}
		if c.ca != "" {
			e.Options["ca"] = c.ca
		}
		if c.pin != "" {
			e.Options["pin"] = c.pin
		}
		s, err := Driver{}.Open(t.Context(), e)
		if c.kind != 0 {
			isKind(t, err, c.kind)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		b := randomBytes(20 << 20)
		if _, err := write(t.Context(), s, "/a", -1, b); err != nil {
			t.Error(err)
		}
		holds(t, f, "a", b)
		_ = s.Close()
	}
}

// TestEndpoints: what is wrong with an endpoint is said before anybody is reached.
func TestEndpoints(t *testing.T) {
	for _, u := range []string{"", "s3://", "s3:///bucket", "s3://h", "s3://h/", "http://h/bucket", "s3://u:p@h/bucket", "s3://h/bucket?x=1", "s3://h/bucket#x", "s3://h/B%20!/x", "s3://h/bucket/a/../b", "s3://h/bucket/a//b", "s3://h/bucket/%0d%0a"} {
		_, err := configure(plugins.Endpoint{URL: u})
		isKind(t, err, fault.Invalid)
	}
	for name, value := range map[string]string{"none": "x", "region": "a b", "path-style": "x", "ca": "/none/such", "pin": "xyz", "part-size": "4", "parallel": "17", "timeout": "2h", "checksum": "md5", "max-entries": "0"} {
		_, err := configure(plugins.Endpoint{URL: "s3://h/bucket", Options: map[string]string{name: value}})
		isKind(t, err, map[bool]fault.Kind{true: fault.NotFound, false: fault.Invalid}[name == "ca"], name)
	}
	c, err := configure(plugins.Endpoint{URL: "s3://s3.eu-north-1.amazonaws.com/bucket/a%20b/c/"})
	if err != nil || c.region != "eu-north-1" || c.base != "a b/c/" || !c.secure {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestCopy: the server copies, at once and in parts, to another bucket too, and says of
// both the same.
func TestCopy(t *testing.T) {
	f := s3server.Start(t, false)
	if err := os.Mkdir(filepath.Join(f.Root, "other"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := opens(t, endpoint(f))
	e := endpoint(f)
	e.URL = "s3+http://" + f.Address + "/other/base"
	d := opens(t, e)
	for _, size := range []int{0, 1, 20 << 20} {
		b := randomBytes(size)
		if _, err := write(t.Context(), s, "/a", int64(size), b); err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int64{copyPart, 5 << 20} {
			d.config.copyPart = limit
			var last int64
			r, err := s.Copy(t.Context(), "/a", d, "/b", plugins.CopyRequest{Progress: func(n int64, _ []byte) { last = n }})
			if err != nil || r.Bytes != int64(size) || r.Verified == "" || r.Verified == "size" && limit == copyPart || last != int64(size) {
				t.Errorf("%d bytes by %d: %+v, %v, at last %d", size, limit, r, err, last)
			}
			if got, err := os.ReadFile(filepath.Join(f.Root, "other/base/b")); err != nil || !bytes.Equal(got, b) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		}
	}
	_, err := s.Copy(t.Context(), "/none", d, "/b", plugins.CopyRequest{})
	isKind(t, err, fault.NotFound)
	_, err = s.Copy(t.Context(), "/a", s, "/a", plugins.CopyRequest{})
	isKind(t, err, fault.Invalid)
	other := opens(t, newFake(t).endpoint())
	_, err = s.Copy(t.Context(), "/a", other, "/b", plugins.CopyRequest{})
	isKind(t, err, fault.Unsupported, s.config.where, other.config.where, "read the file here")
}

// TestCopyResume: what a server has copied is not copied again, in another session, unless
// the source is another.
func TestCopyResume(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		f := newFake(t)
		b := randomBytes(10_000)
		f.puts("a", b)
		s := opens(t, f.endpoint("parallel", "1"))
		s.config.copyPart = 1000
		var n atomic.Int64
		f.mu.Lock()
		f.hook = func(op string, w http.ResponseWriter, _ *http.Request) bool {
			if op == "UploadPartCopy" && n.Add(1) > 6 {
				refuse(w, 403, "AccessDenied", "no more")
				return true
			}
			return false
		}
		f.mu.Unlock()
		r, err := s.Copy(t.Context(), "/a", s, "/b", plugins.CopyRequest{})
		isKind(t, err, fault.Permission, "keys of the destination")
		if len(r.Resume) == 0 || len(r.Resume) > plugins.MaxResume || r.Bytes != 6000 {
			t.Fatalf("%+v", r)
		}
		want := int64(4)
		if replaced {
			b, want = b[1:], 10
			f.puts("a", b)
		}
		n.Store(-100)
		s = opens(t, f.endpoint())
		s.config.copyPart = 1000
		r, err = s.Copy(t.Context(), "/a", s, "/b", plugins.CopyRequest{Resume: r.Resume})
		if err != nil || r.Bytes != int64(len(b)) || !bytes.Equal(f.has("b"), b) || n.Load() != -100+want || len(f.uploads) != 0 {
			t.Errorf("%+v, %v; %d parts were copied, %d bytes are there, %d uploads left", r, err, n.Load()+100, len(f.has("b")), len(f.uploads))
		}
	}
}

// TestCopyRepeats: where the server says of a part what it knows of the whole, no such
// checksum is asked for.
func TestCopyRepeats(t *testing.T) {
	f := newFake(t)
	f.repeats = true
	f.puts("a", randomBytes(3000))
	s := opens(t, f.endpoint())
	s.config.copyPart = 1000
	f.mu.Lock()
	f.hook = func(op string, w http.ResponseWriter, r *http.Request) bool {
		if op == "CompleteMultipartUpload" && r.Header.Get("X-Amz-Checksum-Crc32c") != "" {
			refuse(w, 400, "BadDigest", "so it is")
			return true
		}
		return false
	}
	f.mu.Unlock()
	r, err := s.Copy(t.Context(), "/a", s, "/b", plugins.CopyRequest{})
	if err != nil || r.Bytes != 3000 || len(f.uploads) != 0 {
		t.Errorf("%+v, %v; %d uploads are left", r, err, len(f.uploads))
	}
}

// TestCopyLies: a source that is replaced meanwhile, an error with status 200, another
// file in the end.
func TestCopyLies(t *testing.T) {
	b := randomBytes(3000)
	for name, c := range map[string]struct {
		part   int64
		answer func(f *fake, op string, w http.ResponseWriter) bool
		kind   fault.Kind
		has    string
	}{
		"replaced": {1 << 20, func(f *fake, op string, _ http.ResponseWriter) bool {
			if op == "CopyObject" {
				f.puts("a", b[1:])
			}
			return false
		}, fault.SourceChanged, "PreconditionFailed"},
		"replaced between parts": {1000, func(f *fake, op string, _ http.ResponseWriter) bool {
			if op == "UploadPartCopy" && f.did(op) == 3 {
				f.puts("a", append(b[1:], 1))
			}
			return false
		}, fault.SourceChanged, "PreconditionFailed"},
		"200 with an error": {1 << 20, func(f *fake, op string, w http.ResponseWriter) bool {
			if op == "CopyObject" {
				refuse(w, 200, "AccessDenied", "no")
			}
			return op == "CopyObject"
		}, fault.Permission, "AccessDenied"},
		"200 with nothing": {1 << 20, func(f *fake, op string, w http.ResponseWriter) bool {
			if op == "CopyObject" {
				_, _ = io.WriteString(w, "<CopyObjectResult/>")
			}
			return op == "CopyObject"
		}, fault.Protocol, "does not say"},
		"200 with an error of a part": {1000, func(f *fake, op string, w http.ResponseWriter) bool {
			if op == "UploadPartCopy" {
				refuse(w, 200, "InternalError", "no")
			}
			return op == "UploadPartCopy"
		}, fault.IO, "InternalError"},
		"another file": {1 << 20, func(f *fake, op string, w http.ResponseWriter) bool {
			if op == "CopyObject" {
				f.puts("b", append(b[1:], 1))
				_, _ = io.WriteString(w, `<CopyObjectResult><ETag>"x"</ETag></CopyObjectResult>`)
			}
			return op == "CopyObject"
		}, fault.Corrupt, "crc32c"},
		"another size": {1 << 20, func(f *fake, op string, w http.ResponseWriter) bool {
			if op == "CopyObject" {
				f.puts("b", b[1:])
				_, _ = io.WriteString(w, `<CopyObjectResult><ETag>"x"</ETag></CopyObjectResult>`)
			}
			return op == "CopyObject"
		}, fault.Corrupt, "2999"},
	} {
		for _, rename := range []bool{false, true} {
			t.Run(fmt.Sprint(name, rename), func(t *testing.T) {
				f := newFake(t)
				f.puts("a", b)
				s := opens(t, f.endpoint("parallel", "1"))
				s.config.copyPart = c.part
				f.mu.Lock()
				f.hook = func(op string, w http.ResponseWriter, _ *http.Request) bool { return c.answer(f, op, w) }
				f.mu.Unlock()
				var err error
				if rename {
					err = s.Rename(t.Context(), "/a", "/b")
					if f.has("a") == nil || len(f.uploads) > 0 {
						t.Errorf("the old name is gone, or %d uploads are left", len(f.uploads))
					}
				} else {
					_, err = s.Copy(t.Context(), "/a", s, "/b", plugins.CopyRequest{})
				}
				isKind(t, err, c.kind, c.has)
			})
		}
	}
}

// TestCopyKeeps: what the source says of itself is said of a copy in parts too.
func TestCopyKeeps(t *testing.T) {
	f := s3server.Start(t, false)
	s := opens(t, endpoint(f))
	s.config.copyPart = 5 << 20
	_, err := s.core.PutObject(t.Context(), s3server.Bucket, "a", bytes.NewReader(make([]byte, 11<<20)), 11<<20, "", "",
		minio.PutObjectOptions{ContentType: "text/x", CacheControl: "no-store", UserMetadata: map[string]string{"Who": "me"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Rename(t.Context(), "/a", "/b"); err != nil {
		t.Fatal(err)
	}
	o, err := s.head(t.Context(), "b")
	if err != nil || o.ContentType != "text/x" || o.UserMetadata["Who"] != "me" || o.Headers.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestCutConnections: connections that break while parts are on their way are made anew.
func TestCutConnections(t *testing.T) {
	f := s3server.Start(t, false)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var cut atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				up, err := net.Dial("tcp", f.Address)
				if err != nil {
					return
				}
				defer up.Close()
				go func() { _, _ = io.Copy(c, up) }()
				if n, _ := io.CopyN(up, c, 5<<20); n == 5<<20 && cut.Add(1) > 2 {
					_, _ = io.Copy(up, c)
				}
			}()
		}
	}()
	e := endpoint(f)
	e.URL = "s3+http://" + l.Addr().String() + "/" + s3server.Bucket
	s := opens(t, e)
	b := randomBytes(40 << 20)
	if _, err := write(t.Context(), s, "/a", int64(len(b)), b); err != nil {
		t.Fatal(err)
	}
	holds(t, f, "a", b)
	if cut.Load() < 3 {
		t.Errorf("%d connections had something to cut", cut.Load())
	}
}

// TestClosed: what still runs when a session is closed ends.
func TestClosed(t *testing.T) {
	f := newFake(t)
	s := opens(t, f.endpoint("timeout", "1h"))
	quiet := make(chan struct{})
	defer close(quiet)
	f.at("UploadPart", func(http.ResponseWriter, *http.Request) { <-quiet })
	st := begins(t, s, "/a", -1, nil, make([]byte, 12<<20))
	_ = s.Close()
	_, err := st.Commit(context.Background())
	isKind(t, err, fault.Canceled)
}
