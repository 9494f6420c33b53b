package httpd_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/engine/httpd/httpdtest"
)

// TestStrangersEnd: who is refused, and never sends the body that was announced, does not keep a
// connection: there are only so many places for them.
func TestStrangersEnd(t *testing.T) {
	tokens, _, err := access.OpenTokens(filepath.Join(t.TempDir(), "t"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string]string{"/orders": "", "/nowhere": "", "/login": "", "/orders?x": "Sec-Fetch-Site: cross-site\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			s, err := httpd.New(httpd.Config{Tokens: tokens, Local: func(int) bool { return false }})
			if err != nil {
				t.Fatal(err)
			}
			s.Mount("POST /orders", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was let in") }), access.Operate)
			client := httpdtest.Serve(t, s, false)
			plain, err := client.Transport.(*http.Transport).DialContext(t.Context(), "tcp", "x:1")
			if err != nil {
				t.Fatal(err)
			}
			conn := tls.Client(plain, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: 100\r\n\r\n", name, more); err != nil {
				t.Fatal(err)
			}
			began, over := time.Now(), make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, conn)
				over <- err
			}()
			select {
			case <-over:
			case <-time.After(time.Hour):
				t.Errorf("%s: the connection is there after an hour", name)
			}
			if took := time.Since(began); took > 5*time.Minute {
				t.Errorf("%s: it took %v", name, took)
			}
		})
	}
}
