package push

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/lifecycle"
)

// TestNoSecretIsTold: neither the address, in which there may be a key, nor what the endpoint says,
// which may be what it was told, is in an error.
func TestNoSecretIsTold(t *testing.T) {
	for _, status := range []int{0, 401, 422} { // 0: it is gone
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if status != 0 {
				fmt.Fprintf(c, "HTTP/1.1 %d %s %s\r\nContent-Length: 0\r\n\r\n", status, r.Header.Get("Authorization"), r.URL)
			}
		}))
		secret := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(secret, []byte("canary"), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &Pusher{cfg: Config{URL: s.URL + "/?key=canary", Secret: secret, Cursor: filepath.Join(t.TempDir(), "push.json"), Log: slog.New(slog.DiscardHandler), Client: s.Client()}, ctx: t.Context()}
		err := p.post(make([]lifecycle.Record, 1))
		s.Close()
		if err == nil || strings.Contains(err.Error(), "canary") || status != 0 && !strings.Contains(err.Error(), fmt.Sprint(status, " ", http.StatusText(status))) {
			t.Errorf("%d: %v", status, err)
		}
	}
}
