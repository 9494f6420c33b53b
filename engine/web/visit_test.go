package web_test

import (
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/web/webtest"
	"github.com/pannier/pannier/spec/adminpb"
)

// TestFirstVisit: a browser that has no session yet comes to a node's own address, is led to where it
// logs in and back, and has nothing to complain about.
func TestFirstVisit(t *testing.T) {
	dir := shortDir(t)
	n := start(t, dir, "here", "[http]\nlisten = [\"tls://127.0.0.1:0\"]\n")
	s := siteOf(t, dir)
	token := func(name, scope string) string {
		t.Helper()
		made, err := s.client.CreateToken(t.Context(), &adminpb.CreateTokenRequest{Name: name, Scopes: []string{scope}})
		if err != nil {
			t.Fatal(err)
		}
		return made.GetText()
	}
	at := "https://" + strings.TrimPrefix(n.HTTP().Addresses()[0], "tls://")
	webtest.Visit{Script: "testdata/browser/page.mjs", Args: []string{"first", at},
		Env: []string{"TOKEN=" + token("olga", "operate"), "SUBMITS=" + token("program", "submit"), "PASSING=" + token("passing", "read")},
		Ask: func(name string) {
			if _, err := s.client.DeleteToken(t.Context(), &adminpb.DeleteTokenRequest{Name: name}); err != nil {
				t.Error(err)
			}
		}}.Run(t)
}
