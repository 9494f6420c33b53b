package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// at answers one operation in a way of its own.
func (f *fake) at(op string, answer func(w http.ResponseWriter, r *http.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = func(o string, w http.ResponseWriter, r *http.Request) bool {
		if o != op {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		answer(w, r)
		return true
	}
}

// TestLyingRead: what a server says and sends of a file that is not so.
func TestLyingRead(t *testing.T) {
	b := randomBytes(3000)
	for _, c := range []struct {
		name   string
		offset int64
		kind   fault.Kind
		has    string
		answer func(f *fake, w http.ResponseWriter, r *http.Request)
	}{
		{"cut off in spite of its length", 0, fault.Lost, "unexpected EOF", func(f *fake, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3000")
			_, _ = w.Write(b[:1000])
		}},
		{"shorter, with that length", 0, fault.Corrupt, "1000 bytes", func(f *fake, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(b[:1000])
		}},
		{"shorter, without a length", 0, fault.Corrupt, "2000 bytes before the end", func(f *fake, w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(b[:1000])
			w.(http.Flusher).Flush()
		}},
		{"longer, without a length", 0, fault.Corrupt, "more bytes", func(f *fake, w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(b)
			w.(http.Flusher).Flush()
			_, _ = w.Write(b)
		}},
		{"other bytes", 0, fault.Corrupt, "CRC32C", func(f *fake, w http.ResponseWriter, r *http.Request) {
			other := bytes.Clone(b)
			other[7] ^= 1
			_, _ = w.Write(other)
		}},
		{"another ETag", 0, fault.SourceChanged, "ETag", func(f *fake, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"other"`)
			_, _ = w.Write(b)
		}},
		{"replaced meanwhile", 0, fault.SourceChanged, "PreconditionFailed", func(f *fake, w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-Match") != `"`+newObject(b).etag+`"` {
				return
			}
			refuse(w, 412, "PreconditionFailed", "At least one of the preconditions did not hold")
		}},
		{"from the beginning, asked for the end", 1000, fault.Protocol, "asked for bytes 1000-2999/3000", func(f *fake, w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(b)
		}},
		{"another range", 1000, fault.Protocol, "asked for bytes 1000-2999/3000", func(f *fake, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 1001-2999/3000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(b[1001:])
		}},
		{"drip by drip", 0, fault.DeadPeer, "silent for", func(f *fake, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3000")
			for i := range b {
				if _, err := w.Write(b[i : i+1]); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			f.puts("a", b)
			timeout := "1m"
			if c.kind == fault.DeadPeer {
				timeout = "500ms"
			}
			s := opens(t, f.endpoint("timeout", timeout))
			f.at("GetObject", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"`+newObject(b).etag+`"`)
				w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
				c.answer(f, w, r)
			})
			_, err := reads(t.Context(), s, "/a", c.offset)
			isKind(t, err, c.kind, "s3 GetObject", "s3+"+f.URL+"/bucket/a", c.has)
		})
	}
}

// TestSlowReader: a caller that takes its time is not a server that is silent.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.puts("a", randomBytes(8<<20))
	s := opens(t, f.endpoint("timeout", "3s"))
	r, err := s.Read(t.Context(), "/a", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second)
	if n, err := io.Copy(io.Discard, r); n != 8<<20-1000 || err != nil || r.Close() != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestLyingCommit: what a server says at the end of a write that is not so, and what has
// come of the file then.
func TestLyingCommit(t *testing.T) {
	big, small := randomBytes(12<<20), randomBytes(3000)
	answer := func(text string) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	head := func(size int, etag, crc string) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			w.Header().Set("ETag", etag)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			if crc != "" {
				w.Header().Set("X-Amz-Checksum-Crc32c", crc)
				w.Header().Set("X-Amz-Checksum-Type", "FULL_OBJECT")
			}
		}
	}
	good := `"` + newObject(small).etag + `"`
	for _, c := range []struct {
		name   string
		b      []byte
		op     string
		answer func(w http.ResponseWriter, r *http.Request)
		kind   fault.Kind
		has    string
	}{
		{"200 with an error", big, "CompleteMultipartUpload", answer("\n\n<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code><Message>We encountered an internal error</Message></Error>"), fault.IO, "InternalError"},
		{"200 with an access error", big, "CompleteMultipartUpload", answer("<Error><Code>AccessDenied</Code><Message>no</Message></Error>"), fault.Permission, "AccessDenied"},
		{"200 with nothing", big, "CompleteMultipartUpload", answer(""), fault.Protocol, "200 OK"},
		{"200 with something else", big, "CompleteMultipartUpload", answer("<Hello/>"), fault.Protocol, "CompleteMultipartUpload"},
		{"200 with no XML", big, "CompleteMultipartUpload", answer("hello"), fault.Protocol, ""},
		{"huge XML", big, "CompleteMultipartUpload", func(w http.ResponseWriter, _ *http.Request) {
			for range 10 << 10 {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1024)); err != nil {
					return
				}
			}
		}, fault.Protocol, "more than 8388608 bytes"},
		{"another checksum of all", big, "CompleteMultipartUpload", answer(`<CompleteMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><ETag>"e-2"</ETag><ChecksumCRC32C>AAAAAA==</ChecksumCRC32C><ChecksumType>FULL_OBJECT</ChecksumType></CompleteMultipartUploadResult>`), fault.Corrupt, "CRC32C AAAAAA=="},
		{"another checksum of a part", big, "UploadPart", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"e"`)
			w.Header().Set("X-Amz-Checksum-Crc32c", "AAAAAA==")
		}, fault.Corrupt, "CRC32C AAAAAA=="},
		{"a part without an ETag", big, "UploadPart", answer(""), fault.Protocol, "without an ETag"},
		{"an upload without a name", big, "CreateMultipartUpload", answer("<InitiateMultipartUploadResult></InitiateMultipartUploadResult>"), fault.Protocol, "without a name"},
		{"another ETag", small, "HeadObject", head(3000, `"other"`, ""), fault.Corrupt, "ETag other"},
		{"another size", small, "HeadObject", head(2999, good, ""), fault.Corrupt, "2999 bytes"},
		{"another checksum", small, "HeadObject", head(3000, good, "AAAAAA=="), fault.Corrupt, "CRC32C AAAAAA=="},
		{"another checksum at once", small, "PutObject", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", good)
			w.Header().Set("X-Amz-Checksum-Crc32c", "AAAAAA==")
		}, fault.Corrupt, "CRC32C AAAAAA=="},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			s := opens(t, f.endpoint())
			f.at(c.op, c.answer)
			_, err := write(t.Context(), s, "/a", int64(len(c.b)), c.b)
			isKind(t, err, c.kind, "s3+"+f.URL+"/bucket/a", c.has)
			if len(f.uploads) != 0 {
				t.Errorf("%d uploads are left", len(f.uploads))
			}
		})
	}
}

// TestTakenAway: a file that the server has confirmed is delivered, whether or not its receiver has taken it away
// before anybody could compare it; one of which the confirmation was lost is not.
func TestTakenAway(t *testing.T) {
	for _, size := range []int{3000, 12 << 20} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, answer lost %v", size, lost), func(t *testing.T) {
				f := newFake(t)
				s := opens(t, f.endpoint())
				f.mu.Lock()
				f.hook = func(op string, _ http.ResponseWriter, _ *http.Request) bool {
					if op != "HeadObject" {
						if lost && (op == "CompleteMultipartUpload" || op == "PutObject") {
							panic(http.ErrAbortHandler)
						}
						return false
					}
					f.mu.Lock()
					defer f.mu.Unlock()
					delete(f.objects, "bucket/a")
					return false
				}
				f.mu.Unlock()
				a, err := write(t.Context(), s, "/a", int64(size), randomBytes(size))
				switch {
				case lost:
					isKind(t, err, fault.Lost)
				case err != nil || a.Size != -1 || a.Verified != "" || a.Name != "/a":
					t.Errorf("%+v, %v", a, err)
				}
				if f.did("HeadObject") == 0 || len(f.uploads) != 0 && !lost {
					t.Errorf("%d uploads are left, HEAD was asked for %d times", len(f.uploads), f.did("HeadObject"))
				}
			})
		}
	}
}

// TestCopyTakenAway: the same of a copy; a source is not removed for one that nobody has seen.
func TestCopyTakenAway(t *testing.T) {
	for _, code := range []int{404, 403} {
		for _, moves := range []bool{false, true} {
			f := newFake(t)
			f.puts("a", randomBytes(3000))
			s := opens(t, f.endpoint())
			f.mu.Lock()
			f.hook = func(op string, w http.ResponseWriter, r *http.Request) bool {
				if op == "HeadObject" && strings.HasSuffix(r.URL.Path, "/b") {
					w.WriteHeader(code)
					return true
				}
				return false
			}
			f.mu.Unlock()
			if moves {
				if err := s.Rename(t.Context(), "/a", "/b"); err == nil || f.has("a") == nil {
					t.Errorf("%d: the source is gone, %v", code, err)
				}
				continue
			}
			r, err := s.Copy(t.Context(), "/a", s, "/b", plugins.CopyRequest{})
			if err != nil || r.Bytes != 3000 || r.Verified != "" || f.has("b") == nil {
				t.Errorf("%d: %+v, %v", code, r, err)
			}
		}
	}
}

// TestLostAnswer: a file whose confirmation was lost is committed if the server has it,
// and is not if the server has another.
func TestLostAnswer(t *testing.T) {
	for _, size := range []int{3000, 12 << 20} {
		for _, done := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d bytes, done %v", size, done), func(t *testing.T) {
				f := newFake(t)
				f.puts("a", bytes.Repeat([]byte("x"), size))
				s := opens(t, f.endpoint())
				b := randomBytes(size)
				f.mu.Lock()
				f.hook = func(op string, w http.ResponseWriter, r *http.Request) bool {
					if op != "CompleteMultipartUpload" && op != "PutObject" {
						return false
					}
					if done {
						f.mu.Lock()
						f.hook = nil
						f.mu.Unlock()
						f.ServeHTTP(httptest.NewRecorder(), r)
						f.mu.Lock()
						f.hook = func(op string, w http.ResponseWriter, r *http.Request) bool {
							if op == "PutObject" {
								panic(http.ErrAbortHandler)
							}
							return false
						}
						f.mu.Unlock()
					}
					panic(http.ErrAbortHandler)
				}
				f.mu.Unlock()
				_, err := write(t.Context(), s, "/a", int64(size), b)
				if done {
					if err != nil || !bytes.Equal(f.has("a"), b) {
						t.Errorf("%d bytes are there, %v", len(f.has("a")), err)
					}
					return
				}
				isKind(t, err, fault.Lost)
			})
		}
	}
}

// TestLyingList: listings that do not end, or are not of the directory.
func TestLyingList(t *testing.T) {
	page := func(entries, token string) string {
		return `<ListBucketResult>` + entries + `<IsTruncated>true</IsTruncated><NextContinuationToken>` + token + `</NextContinuationToken></ListBucketResult>`
	}
	entry := func(key string) string {
		return "<Contents><Key>" + key + "</Key><Size>1</Size><LastModified>2026-01-02T03:04:05Z</LastModified></Contents>"
	}
	var n atomic.Int64
	for _, c := range []struct {
		name   string
		answer func() string
		kind   fault.Kind
		has    string
	}{
		{"in a circle", func() string { return page(entry("d/a"), "same") }, fault.Protocol, "has gone on before"},
		{"without end", func() string { i := n.Add(1); return page(entry(fmt.Sprint("d/a", i)), fmt.Sprint(i)) }, fault.Protocol, "more than 50 entries"},
		{"empty without end", func() string { return page("", fmt.Sprint(n.Add(1))) }, fault.Protocol, "pages with nothing"},
		{"what an Abort kept, in a circle of two", func() string {
			return page(entry("d/.pannier-0123456789abcdef.part"), fmt.Sprint(n.Add(1)%2))
		}, fault.Protocol, "more than 50 entries"},
		{"itself, in a circle of two", func() string { return page(entry("d/"), fmt.Sprint(n.Add(1)%2)) }, fault.Protocol, "more than 50 entries"},
		{"strange, in a circle of two", func() string { return page(entry("d/./x"), fmt.Sprint(n.Add(1)%2)) }, fault.Protocol, "more than 50 entries"},
		{"truncated without a token", func() string { return "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>" }, fault.Unsupported, "continuation token"},
		{"of another directory", func() string { return page(entry("other"), "1") }, fault.Protocol, "does not begin so"},
		{"huge", func() string { return page(strings.Repeat(entry("d/"+strings.Repeat("x", 900)), 10000), "1") }, fault.Protocol, "more than 8388608 bytes"},
		{"no XML", func() string { return "hello" }, fault.Protocol, ""},
		{"200 with an error", func() string {
			return "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
		}, fault.Overloaded, "SlowDown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			s := opens(t, f.endpoint("max-entries", "50"))
			var asked atomic.Int64
			f.at("ListObjectsV2", func(w http.ResponseWriter, _ *http.Request) {
				if asked.Add(1) > 2*maxEmpty { // who is still there is told the end
					_, _ = io.WriteString(w, "<ListBucketResult></ListBucketResult>")
					return
				}
				_, _ = io.WriteString(w, c.answer())
			})
			var err error
			for _, err = range s.List(t.Context(), "/d") {
				if err != nil {
					break
				}
			}
			isKind(t, err, c.kind, "s3 ListObjectsV2", c.has)
		})
	}
}

// TestUseless: page after page that has nothing of use comes to an end long before max-entries, for who removes
// a directory as well; and what an honest server says of the directory itself is no entry too many.
func TestUseless(t *testing.T) {
	for _, key := range []string{"d/.pannier-0123456789abcdef.part", "d/", "d/./x"} {
		f := newFake(t)
		s := opens(t, f.endpoint())
		var n atomic.Int64
		f.mu.Lock()
		f.hook = func(op string, w http.ResponseWriter, _ *http.Request) bool {
			if op != "ListObjectsV2" {
				return false
			}
			if n.Add(1) > 3*maxEmpty { // who is still there is told the end
				_, _ = io.WriteString(w, "<ListBucketResult></ListBucketResult>")
				return true
			}
			fmt.Fprintf(w, `<ListBucketResult><Contents><Key>%s</Key><Size>0</Size><LastModified>2026-01-02T03:04:05Z</LastModified></Contents><IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken></ListBucketResult>`, key, n.Load()%2)
			return true
		}
		f.mu.Unlock()
		var err error
		for _, err = range s.List(t.Context(), "/d") {
		}
		isKind(t, err, fault.Protocol, "pages with nothing")
		if n.Store(0); key == "d/" {
			isKind(t, s.Remove(t.Context(), "/d"), fault.Protocol, "pages with nothing")
		}
	}
	f := newFake(t)
	for _, k := range []string{"d/", "d/a", "d/b"} {
		f.puts(k, nil)
	}
	for _, most := range []string{"2", "1"} {
		var err error
		for _, err = range opens(t, f.endpoint("max-entries", most)).List(t.Context(), "/d") {
		}
		if (err == nil) != (most == "2") {
			t.Errorf("of two entries, %s allowed: %v", most, err)
		}
	}
}

// TestStrangeNames: entries that cannot be names, and what an Abort has kept, are left out.
func TestStrangeNames(t *testing.T) {
	f := newFake(t)
	for _, k := range []string{"d/", "d/good", "d/sub/x", "d/../up", "d/./x", "d//x", "d/cr&#13;lf", "d/.pannier-0123456789abcdef.part", "d/.pannier-notours", "other"} {
		f.objects["bucket/"+k] = newObject([]byte(k))
	}
	s := opens(t, f.endpoint())
	var got []string
	for a, err := range s.List(t.Context(), "/d") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(a.Name, a.Dir))
	}
	if fmt.Sprint(got) != "[.pannier-notoursfalse goodfalse subtrue]" {
		t.Errorf("%q", got)
	}
}

// TestRedirect: no request goes to a host that nobody has chosen.
func TestRedirect(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	for _, status := range []int{301, 302, 307, 308} {
		f := newFake(t)
		f.puts("a", []byte("x"))
		s := opens(t, f.endpoint())
		for _, op := range []string{"GetObject", "HeadObject", "PutObject"} {
			f.at(op, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", other.URL+"/bucket/a")
				w.Header().Set("X-Amz-Bucket-Region", "eu-north-1")
				w.WriteHeader(status)
			})
			_, err := reads(t.Context(), s, "/a", 0)
			if op == "PutObject" {
				_, err = write(t.Context(), s, "/a", 1, []byte("y"))
			}
			isKind(t, err, fault.Refused, other.URL, "eu-north-1")
		}
	}
	if elsewhere.Load() > 0 {
		t.Errorf("%d requests went elsewhere", elsewhere.Load())
	}
}

// TestSilence: a server that says nothing, at any call; the caller's time ends it too.
func TestSilence(t *testing.T) {
	for _, op := range []string{"HeadObject", "GetObject", "ListObjectsV2", "PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload", "DeleteObject", "CopyObject"} {
		for _, patient := range []bool{true, false} {
			t.Run(fmt.Sprint(op, patient), func(t *testing.T) {
				t.Parallel() // it waits
				f := newFake(t)
				f.puts("a", []byte("x"))
				few := 200 * time.Millisecond
				if op == "UploadPart" || op == "CompleteMultipartUpload" || op == "CopyObject" { // others have to be answered before
					few = 3 * time.Second
				}
				limit := map[bool]string{true: few.String(), false: "1h"}[patient]
				s := opens(t, f.endpoint("timeout", limit))
				quiet := make(chan struct{})
				defer close(quiet)
				f.at(op, func(http.ResponseWriter, *http.Request) { <-quiet })
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if !patient {
					ctx, cancel = context.WithTimeout(ctx, few)
					defer cancel()
				}
				var err error
				switch op {
				case "ListObjectsV2":
					for _, err = range s.List(ctx, "/d") {
					}
				case "PutObject":
					_, err = write(ctx, s, "/b", 1, []byte("x"))
				case "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload":
					_, err = write(ctx, s, "/b", -1, make([]byte, 12<<20))
				case "DeleteObject":
					err = s.Remove(ctx, "/a")
				case "CopyObject":
					_, err = s.Copy(ctx, "/a", s, "/b", plugins.CopyRequest{})
				default:
					_, err = reads(ctx, s, "/a", 0)
				}
				isKind(t, err, map[bool]fault.Kind{true: fault.DeadPeer, false: fault.Deadline}[patient], op)
				if n := f.did(op); patient && op != "ListObjectsV2" && n > 4 { // parts are several at a time
					t.Errorf("%d requests of a server that was silent", n)
				}
			})
		}
	}
}

// TestAgain: a server that wants fewer requests is asked again, and not for ever.
func TestAgain(t *testing.T) {
	f := newFake(t)
	s := opens(t, f.endpoint())
	var n atomic.Int64
	f.at("PutObject", func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		refuse(w, 503, "SlowDown", "Please reduce your request rate.")
	})
	_, err := write(t.Context(), s, "/a", 1, []byte("x"))
	isKind(t, err, fault.Overloaded, "SlowDown", "parallel")
	if n.Load() != attempts {
		t.Errorf("it was asked %d times", n.Load())
	}
	f.mu.Lock()
	var asked sync.Map
	f.hook = func(op string, w http.ResponseWriter, r *http.Request) bool {
		if _, again := asked.LoadOrStore(r.URL.String(), true); op == "UploadPart" && !again {
			refuse(w, 500, "InternalError", "once")
			return true
		}
		return false
	}
	f.mu.Unlock()
	b := randomBytes(30 << 20)
	if _, err := write(t.Context(), s, "/a", -1, b); err != nil || !bytes.Equal(f.has("a"), b) {
		t.Errorf("%d bytes, %v", len(f.has("a")), err)
	}
}

// TestErrors: what servers say, as kinds, with what to change.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		kind   fault.Kind
		has    string
	}{
		{404, "NoSuchBucket", fault.NotFound, "bucket in the URL"},
		{403, "InvalidAccessKeyId", fault.Unauthenticated, "access key"},
		{403, "SignatureDoesNotMatch", fault.Unauthenticated, "secret key"},
		{400, "ExpiredToken", fault.Unauthenticated, "token"},
		{400, "AuthorizationHeaderMalformed", fault.Unauthenticated, "option region"},
		{503, "SlowDown", fault.Overloaded, "fewer requests"},
		{500, "InternalError", fault.IO, "InternalError"},
		{507, "XMinioStorageFull", fault.NoSpace, "make room"},
		{403, "QuotaExceeded", fault.NoSpace, "quota"},
		{501, "NotImplemented", fault.Unsupported, "does not know"},
		{403, "SomethingNew", fault.Permission, "SomethingNew"},
		{418, "SomethingNew", fault.Refused, "SomethingNew"},
		{502, "", fault.IO, "502"},
	} {
		t.Run(c.code, func(t *testing.T) {
			f := newFake(t)
			s := opens(t, f.endpoint())
			f.at("ListObjectsV2", func(w http.ResponseWriter, _ *http.Request) {
				if c.code == "" {
					w.WriteHeader(c.status)
					return
				}
				refuse(w, c.status, c.code, "the server's words")
			})
			var err error
			for _, err = range s.List(t.Context(), "/d") {
			}
			isKind(t, err, c.kind, "s3 ListObjectsV2", "s3+"+f.URL+"/bucket/d/", c.code, c.has)
			if n, ok := errors.AsType[plugins.Native](err); !ok || c.code != "" && n.Code != c.code {
				t.Errorf("the code of %v is %q", err, n.Code)
			}
		})
	}
}

// TestSkew: whose clock is wrong cannot be known, but by how much can.
func TestSkew(t *testing.T) {
	for by, want := range map[time.Duration]string{-2 * time.Hour: "behind this host's", 3 * time.Hour: "ahead of this host's"} {
		f := newFake(t)
		f.at("ListObjectsV2", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
			refuse(w, 403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
		})
		_, err := Driver{}.Open(t.Context(), f.endpoint())
		isKind(t, err, fault.Unauthenticated, "RequestTimeTooSkewed", "clock", want)
		if e, ok := errors.AsType[*fault.Error](err); !ok || !strings.Contains(e.Advice, "h") {
			t.Errorf("%v does not say by how much", err)
		}
	}
}

// TestMayNotList: a user who may only write is let in, and listing is not offered.
func TestMayNotList(t *testing.T) {
	f := newFake(t)
	f.mu.Lock()
	f.hook = func(op string, w http.ResponseWriter, _ *http.Request) bool {
		if op == "PutObject" {
			return false
		}
		refuse(w, 403, "AccessDenied", "Access Denied")
		return true
	}
	f.mu.Unlock()
	s := opens(t, f.endpoint())
	if s.Capabilities().List {
		t.Error("listing is offered")
	}
	a, err := write(t.Context(), s, "/a", 3, []byte("abc"))
	if err != nil || a.Size != -1 || string(f.has("a")) != "abc" {
		t.Errorf("%+v, %v", a, err)
	}
}
