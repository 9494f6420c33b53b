package web_test

import (
	"fmt"
	"html"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestWrongKey: of a partner that has another key than is configured, the page says what is wrong and
// what to do about it, in the list and in answer to a test.
func TestWrongKey(t *testing.T) {
	dir := shortDir(t)
	there := start(t, filepath.Join(dir, "there"), "there", "").Addresses()
	i := slices.IndexFunc(there, func(a string) bool { return strings.HasPrefix(a, "tls://") })
	start(t, filepath.Join(dir, "here"), "here", fmt.Sprintf("[[partner]]\nname = \"there\"\naddress = %q\nkey = \"sha256:%s\"\n", there[i], strings.Repeat("5a", 32)))
	s := siteOf(t, filepath.Join(dir, "here"))
	_, told := s.do(http.MethodPost, "/partners/there/test", "", "HX-Request", "true")
	for where, text := range map[string]string{"the answer": told, "the list": s.get("/partners")} {
		text = html.UnescapeString(text)
		for _, want := range []string{"not authenticated", `did not prove a key of partner "there"`, "`pannier id` at the partner prints its key"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %q: %s", where, want, text)
			}
		}
	}
}
