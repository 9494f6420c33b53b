package s3

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// TestHostile is check 38, as far as servers of S3 go: what is signed goes to the host of
// the endpoint alone, and in no other way than it says.
func TestHostile(t *testing.T) {
	var elsewhere, signed atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		elsewhere.Add(1)
		if r.Header.Get("Authorization") != "" {
			signed.Add(1)
		}
	}))
	defer other.Close()
	tries := 0
	for _, to := range []string{other.URL + "/bucket/a", "https://" + strings.TrimPrefix(other.URL, "http://") + "/bucket/a", "//" + strings.TrimPrefix(other.URL, "http://") + "/bucket/a"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			f := newFake(t)
			f.puts("a", []byte("x"))
			s := opens(t, f.endpoint())
			for _, op := range []string{"GetObject", "HeadObject", "PutObject", "UploadPart", "ListObjectsV2"} {
				tries++
				f.at(op, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", to)
					w.WriteHeader(status)
				})
				var err error
				switch op {
				case "GetObject", "HeadObject":
					_, err = reads(t.Context(), s, "/a", 0)
				case "PutObject":
					_, err = write(t.Context(), s, "/a", 1, []byte("y"))
				case "UploadPart":
					_, err = write(t.Context(), s, "/a", 12<<20, bytes.Repeat([]byte("y"), 12<<20))
				default:
					for _, failed := range s.List(t.Context(), "/") {
						err = failed
					}
				}
				isKind(t, err, fault.Refused)
			}
		}
	}
	for _, name := range []string{"/a\r\nHost: x", "/a\nb", "/../b", "/a\x00"} {
		tries++
		s := opens(t, newFake(t).endpoint())
		_, err := s.Stat(t.Context(), name)
		isKind(t, err, fault.Invalid)
		_, err = s.Write(t.Context(), name, plugins.WriteRequest{Size: 1})
		isKind(t, err, fault.Invalid)
	}
	n, told := elsewhere.Load(), signed.Load()
	if n > 0 {
		t.Errorf("%d requests went elsewhere, %d of them signed", n, told)
	}
	score.Report(t, float64(n), fmt.Sprintf("s3: %d lies", tries))
}
