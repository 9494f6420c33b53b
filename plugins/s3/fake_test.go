package s3

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
)

// fake is a server that keeps objects in memory, checks no signatures, and does at any
// operation what a test wants instead.
type fake struct {
	*httptest.Server
	mu      sync.Mutex
	objects map[string]*object // by bucket/key
	uploads map[string]map[int]*object
	calls   []string
	repeats bool // says of copied parts the checksum of the whole
	// hook sees each request before; true: it has answered.
	hook func(op string, w http.ResponseWriter, r *http.Request) bool
}

type object struct {
	b    []byte
	etag string
	at   time.Time
}

func newObject(b []byte) *object {
	sum := md5.Sum(b)
	return &object{b, hex.EncodeToString(sum[:]), time.Now().UTC().Truncate(time.Second)}
}

func newFake(t testing.TB) *fake {
	t.Helper()
	f := &fake{objects: map[string]*object{}, uploads: map[string]map[int]*object{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// endpoint is the fake; options are name, value, name, value.
func (f *fake) endpoint(options ...string) plugins.Endpoint {
	e := plugins.Endpoint{URL: "s3+" + f.URL + "/bucket", User: "key", Password: "secret", Options: map[string]string{"timeout": "1m"}}
	for i := 0; i < len(options); i += 2 {
		e.Options[options[i]] = options[i+1]
	}
	return e
}

// did is how often an operation was asked for.
func (f *fake) did(op string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		if c == op {
			n++
		}
	}
	return n
}

// has is an object of the bucket; nil: none.
func (f *fake) has(key string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o := f.objects["bucket/"+key]; o != nil {
		return o.b
	}
	return nil
}

func (f *fake) puts(key string, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects["bucket/"+key] = newObject(b)
}

// operation is what a request asks for.
func operation(r *http.Request) string {
	q := r.URL.Query()
	copies := r.Header.Get("X-Amz-Copy-Source") != ""
	switch {
	case r.Method == http.MethodHead:
		return "HeadObject"
	case r.Method == http.MethodGet && q.Has("list-type"):
		return "ListObjectsV2"
	case r.Method == http.MethodGet && q.Has("uploadId"):
		return "ListParts"
	case r.Method == http.MethodGet:
		return "GetObject"
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPost:
		return "CompleteMultipartUpload"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "AbortMultipartUpload"
	case r.Method == http.MethodDelete:
		return "DeleteObject"
	case q.Has("partNumber") && copies:
		return "UploadPartCopy"
	case q.Has("partNumber"):
		return "UploadPart"
	case copies:
		return "CopyObject"
	}
	return "PutObject"
}

// refuse answers with an error of S3.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op := operation(r)
	f.mu.Lock()
	f.calls = append(f.calls, op)
	hook := f.hook
	f.mu.Unlock()
	if hook != nil && hook(op, w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	name := strings.TrimPrefix(r.URL.Path, "/")
	q := r.URL.Query()
	o := f.objects[name]
	source := f.objects[strings.TrimPrefix(r.Header.Get("X-Amz-Copy-Source"), "/")]
	if want := r.Header.Get("X-Amz-Checksum-Crc32c"); want != "" && r.Method == http.MethodPut {
		if want != crcText(crc32.Checksum(body, castagnoli)) {
			refuse(w, 400, "BadDigest", "the checksum is another")
			return
		}
		w.Header().Set("X-Amz-Checksum-Crc32c", want)
	}
	switch op {
	case "HeadObject", "GetObject":
		f.get(op, w, r, o)
	case "ListObjectsV2":
		f.list(w, r)
	case "PutObject":
		f.objects[name] = newObject(body)
		w.Header().Set("ETag", `"`+f.objects[name].etag+`"`)
	case "DeleteObject":
		delete(f.objects, name)
		w.WriteHeader(http.StatusNoContent)
	case "CreateMultipartUpload":
		id := fmt.Sprint("upload", len(f.calls))
		f.uploads[name+"?"+id] = map[int]*object{}
		fmt.Fprintf(w, `<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>x</Key><UploadId>%s</UploadId></InitiateMultipartUploadResult>`, id)
	case "CopyObject":
		if source == nil || !matches(r.Header.Get("X-Amz-Copy-Source-If-Match"), source) {
			refuse(w, 412, "PreconditionFailed", "another")
			return
		}
		f.objects[name] = newObject(source.b)
		fmt.Fprintf(w, `<CopyObjectResult><ETag>"%s"</ETag></CopyObjectResult>`, source.etag)
	default:
		f.multipart(op, w, r, name, q.Get("uploadId"), body, source)
	}
}

func matches(etag string, o *object) bool { return etag == "" || strings.Trim(etag, `"`) == o.etag }

func (f *fake) multipart(op string, w http.ResponseWriter, r *http.Request, name, id string, body []byte, source *object) {
	parts := f.uploads[name+"?"+id]
	if parts == nil {
		refuse(w, 404, "NoSuchUpload", "no such upload")
		return
	}
	number, _ := strconv.Atoi(r.URL.Query().Get("partNumber"))
	switch op {
	case "UploadPart":
		parts[number] = newObject(body)
		w.Header().Set("ETag", `"`+parts[number].etag+`"`)
	case "UploadPartCopy":
		if source == nil || !matches(r.Header.Get("X-Amz-Copy-Source-If-Match"), source) {
			refuse(w, 412, "PreconditionFailed", "another")
			return
		}
		var from, to int
		_, _ = fmt.Sscanf(r.Header.Get("X-Amz-Copy-Source-Range"), "bytes=%d-%d", &from, &to)
		parts[number] = newObject(source.b[from : to+1])
		of := parts[number].b
		if f.repeats {
			of = source.b
		}
		fmt.Fprintf(w, `<CopyPartResult><ETag>"%s"</ETag><ChecksumCRC32C>%s</ChecksumCRC32C></CopyPartResult>`, parts[number].etag, crcText(crc32.Checksum(of, castagnoli)))
	case "ListParts":
		fmt.Fprint(w, "<ListPartsResult>")
		for n := range 10001 {
			if p := parts[n]; p != nil {
				fmt.Fprintf(w, `<Part><PartNumber>%d</PartNumber><ETag>"%s"</ETag><Size>%d</Size></Part>`, n, p.etag, len(p.b))
			}
		}
		fmt.Fprint(w, "</ListPartsResult>")
	case "AbortMultipartUpload":
		delete(f.uploads, name+"?"+id)
		w.WriteHeader(http.StatusNoContent)
	case "CompleteMultipartUpload":
		var c struct {
			Part []struct {
				PartNumber int
				ETag       string
			}
		}
		_ = xml.Unmarshal(body, &c)
		var whole bytes.Buffer
		sums := md5.New()
		for _, p := range c.Part {
			if parts[p.PartNumber] == nil || parts[p.PartNumber].etag != p.ETag {
				refuse(w, 400, "InvalidPart", "no such part")
				return
			}
			whole.Write(parts[p.PartNumber].b)
			sum := md5.Sum(parts[p.PartNumber].b)
			sums.Write(sum[:])
		}
		if want := r.Header.Get("X-Amz-Checksum-Crc32c"); want != "" && want != crcText(crc32.Checksum(whole.Bytes(), castagnoli)) {
			refuse(w, 400, "BadDigest", "the checksum of all is another")
			return
		}
		o := newObject(whole.Bytes())
		o.etag = hex.EncodeToString(sums.Sum(nil)) + "-" + strconv.Itoa(len(c.Part))
		f.objects[name] = o
		delete(f.uploads, name+"?"+id)
		fmt.Fprintf(w, `<CompleteMultipartUploadResult><Bucket>bucket</Bucket><Key>x</Key><ETag>"%s"</ETag></CompleteMultipartUploadResult>`, o.etag)
	}
}

func (f *fake) get(op string, w http.ResponseWriter, r *http.Request, o *object) {
	if o == nil {
		refuse(w, 404, "NoSuchKey", "no such key")
		return
	}
	if !matches(r.Header.Get("If-Match"), o) {
		refuse(w, 412, "PreconditionFailed", "another")
		return
	}
	h := w.Header()
	h.Set("ETag", `"`+o.etag+`"`)
	h.Set("Last-Modified", o.at.Format(http.TimeFormat))
	if r.Header.Get("X-Amz-Checksum-Mode") != "" {
		h.Set("X-Amz-Checksum-Crc32c", crcText(crc32.Checksum(o.b, castagnoli)))
		h.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
	}
	b := o.b
	if from := 0; r.Header.Get("Range") != "" {
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
		b = b[from:]
	}
	h.Set("Content-Length", strconv.Itoa(len(b)))
	if len(b) < len(o.b) {
		w.WriteHeader(http.StatusPartialContent)
	}
	if op == "GetObject" {
		_, _ = w.Write(b)
	}
}

// list answers pages of two entries.
func (f *fake) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var names []string
	for name := range f.objects {
		key, ok := strings.CutPrefix(name, "bucket/"+q.Get("prefix"))
		if !ok {
			continue
		}
		if dir, _, ok := strings.Cut(key, "/"); ok {
			key = dir + "/"
		}
		names = append(names, q.Get("prefix")+key)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	from, _ := strconv.Atoi(q.Get("continuation-token"))
	fmt.Fprint(w, `<ListBucketResult><EncodingType></EncodingType>`)
	for i, n := range names {
		if i < from || i >= from+2 {
			continue
		}
		if o := f.objects["bucket/"+n]; o != nil {
			fmt.Fprintf(w, `<Contents><Key>%s</Key><Size>%d</Size><LastModified>%s</LastModified><ETag>"%s"</ETag></Contents>`, n, len(o.b), o.at.Format(time.RFC3339), o.etag)
		} else {
			fmt.Fprintf(w, `<CommonPrefixes><Prefix>%s</Prefix></CommonPrefixes>`, n)
		}
	}
	if from+2 < len(names) {
		fmt.Fprintf(w, `<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>`, from+2)
	}
	fmt.Fprint(w, `</ListBucketResult>`)
}
