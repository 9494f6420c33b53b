package httpd

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"testing"

	"github.com/pannier/pannier/engine/access"
)

// TestStrangersGiveWay: strangers who connect and say nothing, more than there are places, keep out
// neither who comes with a token nor who is there already.
func TestStrangersGiveWay(t *testing.T) {
	s := serve(t)
	token := s.token(t, "b", access.Read)
	ask := func() (reused bool) {
		t.Helper()
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
		r := must(http.NewRequestWithContext(ctx, "GET", "https://"+s.address+"/read", nil))
		r.Header.Set("Authorization", "Bearer "+token)
		a, err := s.https.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != http.StatusOK {
			t.Errorf("%d", a.StatusCode)
		}
		return reused
	}
	flood := func() {
		t.Helper()
		for range s.conns + 20 {
			c, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			_, _ = c.Write([]byte{22}) // the first byte of a handshake; it may be closed already
		}
	}
	flood()
	ask()
	flood()
	if !ask() {
		t.Error("a connection that is known has lost its place")
	}
}

// TestTokenCrowds: one token that has all places keeps neither another one out nor itself.
func TestTokenCrowds(t *testing.T) {
	s := serve(t)
	many, other := s.token(t, "many", access.Read), s.token(t, "other", access.Read)
	ask := func(token string) error {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		t.Cleanup(c.CloseIdleConnections)
		r := must(http.NewRequestWithContext(t.Context(), "GET", "https://"+s.address+"/read", nil))
		r.Header.Set("Authorization", "Bearer "+token)
		a, err := c.Do(r)
		if err != nil {
			return err
		}
		defer a.Body.Close()
		if _, err = io.Copy(io.Discard, a.Body); a.StatusCode != http.StatusOK {
			t.Errorf("%d", a.StatusCode)
		}
		return err
	}
	for range s.conns {
		if err := ask(many); err != nil {
			t.Fatal(err)
		}
	}
	for _, token := range []string{other, many} {
		if err := ask(token); err != nil {
			t.Error(err)
		}
	}
}

// TestWhoGivesWay: of the address with most strangers the first; of those who are known the first of
// the token with most, and nobody who has but one.
func TestWhoGivesWay(t *testing.T) {
	b := newBounded(nil, 4)
	come := func(from string) (p, gone *placed, ok bool) {
		p = &placed{of: b, from: from}
		gone, ok = b.enter(p)
		return p, gone, ok
	}
	one, _, _ := come("one")
	first, _, _ := come("many")
	second, _, _ := come("many")
	come("many")
	if _, gone, ok := come("two"); !ok || gone != first {
		t.Errorf("%+v gave way", gone)
	}
	if _, gone, ok := come("three"); !ok || gone != second {
		t.Errorf("%+v gave way", gone)
	}
	if _, gone, ok := come("four"); !ok || gone != one {
		t.Errorf("%+v gave way", gone)
	}
	for i, p := range b.all {
		p.known, p.token = true, []string{"a", "b", "b", "c"}[i]
	}
	if _, gone, ok := come("known"); !ok || gone == nil || gone.token != "b" {
		t.Errorf("%+v gave way", gone)
	}
	for i, p := range b.all {
		p.known, p.token = true, []string{"a", "b", "c", "d"}[i]
	}
	if _, gone, ok := come("five"); ok || gone != nil {
		t.Errorf("%+v gave way to a stranger", gone)
	}
	if len(b.all) != 4 {
		t.Errorf("%d have places", len(b.all))
	}
}
