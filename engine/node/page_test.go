package node_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
)

// The page is where the node speaks HTTP, as who may run the node sees it, and its
// streams do not keep the node from ending.
func TestPage(t *testing.T) {
	h := newHost(t, "hosta")
	h.start(h.config(""))
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.dir+"/state/http.sock")
	}}}
	defer client.CloseIdleConnections()
	get := func(path, first string) *http.Response {
		t.Helper()
		a, err := client.Get("http://hosta" + path)
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(a.Body).ReadString('\n')
		if a.StatusCode != http.StatusOK || !strings.HasPrefix(line, first) || a.Header.Get("Content-Security-Policy") == "" {
			t.Fatalf("GET %s: %s, %q, %v", path, a.Status, line, err)
		}
		return a
	}
	for path, first := range map[string]string{"/": "<!doctype html>", "/partners": "<!doctype html>", "/errors": "<!doctype html>", "/assets/page.css": "/*"} {
		get(path, first).Body.Close()
	}
	a, err := client.Post("http://hosta/words", "application/x-www-form-urlencoded", strings.NewReader("word=retry&id=0123:1:hosta"))
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if a.StatusCode != http.StatusConflict {
		t.Errorf("a word on nothing: %s", a.Status)
	}
	stream := get("/live/transfers", "id: ")
	defer stream.Body.Close()
	if err := h.end(); err != nil {
		t.Error(err)
	}
}
