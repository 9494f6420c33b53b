package trace

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/pannier/pannier/spec/fault"
)

// The environment has secrets for the collector: headers, and what an endpoint's address has
// behind the host. The SDK would print headers that it cannot read, and the exporter the address
// and what the collector answers.

var (
	headerNames   = []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"}
	endpointNames = []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}
)

// checkEnvironment refuses headers and endpoints that the SDK would print as unreadable.
func checkEnvironment(getenv func(string) string) error {
	const op = "open traces"
	for _, name := range headerNames {
		for i, pair := range strings.Split(getenv(name), ",") {
			key, value, found := strings.Cut(pair, "=")
			_, err := url.PathUnescape(value)
			switch {
			case strings.TrimSpace(pair) == "":
			case !found || !httpguts.ValidHeaderFieldName(strings.TrimSpace(key)):
				return fault.New(op, fault.Invalid, "entry %d of %s is no header: write name=value, with commas between", i+1, name)
			case err != nil:
				return fault.New(op, fault.Invalid, "the value of entry %d of %s has a %% that escapes nothing: write %%25", i+1, name)
			}
		}
	}
	for _, name := range endpointNames {
		if _, err := url.Parse(getenv(name)); err != nil {
			return fault.New(op, fault.Invalid, "%s is no address: write it as http://collector.example:4318", name)
		}
	}
	return nil
}

// leastSecret is the shortest word that is hidden: shorter ones are in many a text.
const leastSecret = 6

// hider takes out of a text what the environment has of secrets.
func hider(getenv func(string) string) *strings.Replacer {
	var all []string
	for _, name := range headerNames {
		for pair := range strings.SplitSeq(getenv(name), ",") {
			_, value, _ := strings.Cut(pair, "=")
			plain, err := url.PathUnescape(value)
			if err == nil {
				all = append(append(all, plain), strings.Fields(plain)...) // "Bearer", and what follows
			}
			all = append(all, value)
		}
	}
	for _, name := range endpointNames {
		u, err := url.Parse(getenv(name))
		if err != nil {
			continue
		}
		all = append(all, u.EscapedPath(), u.Path, u.RawQuery, u.User.String())
		if password, ok := u.User.Password(); ok {
			all = append(all, password)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // what is part of another comes later
	var pairs []string
	for _, s := range all {
		if s = strings.Trim(s, " /"); len(s) >= leastSecret && s != "Bearer" && s != "v1/traces" {
			pairs = append(pairs, s, "...")
		}
	}
	return strings.NewReplacer(pairs...)
}
