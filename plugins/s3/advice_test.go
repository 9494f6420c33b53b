package s3

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestAdvice: an error that no further attempt mends says what to change, by each code, and by each status without one.
func TestAdvice(t *testing.T) {
	s := opens(t, newFake(t).endpoint())
	says := func(r minio.ErrorResponse) {
		t.Helper()
		kind := kindOf(r)
		if kind == fault.Lost { // what is wrong is nobody's to change
			return
		}
		if s.advice(kind, r) == "" {
			t.Errorf("%d %s is %v, and nothing is said to do", r.StatusCode, r.Code, kind)
		}
	}
	for code := range codes {
		says(minio.ErrorResponse{Code: code, StatusCode: http.StatusBadRequest})
	}
	for status := 400; status < 600; status++ {
		says(minio.ErrorResponse{Code: "SomethingNew", StatusCode: status})
	}
}

// TestOldTLS: a server that has no TLS which is safe is not one that cannot be reached just now.
func TestOldTLS(t *testing.T) {
	for name, c := range map[string]struct {
		newest uint16
		kind   fault.Kind
		has    string
	}{"1.1": {tls.VersionTLS11, fault.Unsupported, "1.2 or 1.3"}, "unknown authority": {tls.VersionTLS13, fault.Unauthenticated, "pin"}} {
		t.Run(name, func(t *testing.T) {
			f := httptest.NewUnstartedServer(http.NotFoundHandler())
			f.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: c.newest}
			f.StartTLS()
			defer f.Close()
			_, err := Driver{}.Open(t.Context(), plugins.Endpoint{URL: "s3://" + strings.TrimPrefix(f.URL, "https://") + "/bucket", User: "u", Password: "p"})
			isKind(t, err, c.kind, strings.TrimPrefix(f.URL, "https://"), c.has)
		})
	}
}
