package s3

import (
	"strings"
	"testing"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestContradictions: an option that would not be heeded beside the endpoint or another one is
// refused, with what to do, before anybody is reached.
func TestContradictions(t *testing.T) {
	for _, c := range []struct {
		name string
		to   plugins.Endpoint
		want []string
	}{
		{"unknown", plugins.Endpoint{URL: "s3://h/bucket", Options: map[string]string{"part_size": "8"}}, []string{"part_size", "no such option", "part-size"}},
		{"ca without TLS", plugins.Endpoint{URL: "s3+http://h/bucket", Options: map[string]string{"ca": "/x"}}, []string{"option ca", "no TLS", "write s3://"}},
		{"pin without TLS", plugins.Endpoint{URL: "s3+http://h/bucket", Options: map[string]string{"pin": strings.Repeat("ab", 32)}}, []string{"option pin", "no TLS"}},
		{"an address as a name", plugins.Endpoint{URL: "s3://[::1]:9000/bucket", Options: map[string]string{"path-style": "off"}}, []string{"path-style", "::1", "path-style=on"}},
		{"two regions", plugins.Endpoint{URL: "s3://s3.eu-north-1.amazonaws.com/bucket", Options: map[string]string{"region": "us-east-1"}}, []string{"option region", "eu-north-1"}},
		{"a password of nobody", plugins.Endpoint{URL: "s3://h/bucket", Password: "x"}, []string{"no user", "access key"}},
		{"a token of nobody", plugins.Endpoint{URL: "s3://h/bucket", Secrets: map[string]string{"token": "x"}}, []string{"no user"}},
	} {
		_, err := configure(c.to)
		of := Driver{}.CheckEndpoint(c.to.URL, c.to.Options)
		if said := fault.KindOf(of) == fault.Invalid && of.Error() == err.Error(); said != (len(c.to.Options) > 0) {
			t.Errorf("%s: of the options it is said %v, and then %v", c.name, of, err)
		}
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not said: %v", c.name, want, err)
			}
		}
	}
	for name, to := range map[string]plugins.Endpoint{
		"nothing":          {URL: "s3+http://h/bucket"},
		"its own region":   {URL: "s3://s3.eu-north-1.amazonaws.com/bucket", Options: map[string]string{"region": "eu-north-1"}},
		"a name in a path": {URL: "s3://[::1]:9000/bucket", User: "u", Password: "p", Options: map[string]string{"path-style": "on", "pin": strings.Repeat("ab", 32)}},
	} {
		if _, err := configure(to); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := (Driver{}).CheckEndpoint(to.URL, to.Options); err != nil {
			t.Errorf("%s, of the options alone: %v", name, err)
		}
	}
}

// TestCheckReadsNoFiles: whether a file that an option names is right is found by who uses it, and not by who
// checks, who may be another user.
func TestCheckReadsNoFiles(t *testing.T) {
	to := plugins.Endpoint{URL: "s3://h/bucket", Options: map[string]string{"ca": "/no/such/file"}}
	if err := (Driver{}).CheckEndpoint(to.URL, to.Options); err != nil {
		t.Error(err)
	}
	if _, err := configure(to); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "option ca") {
		t.Error(err)
	}
	if err := (Driver{}).CheckEndpoint("s3://h", nil); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "name of a bucket") {
		t.Error(err)
	}
}
