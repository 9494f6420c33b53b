package node_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/go-openapi/loads"
	"github.com/go-openapi/spec"
	"github.com/go-openapi/strfmt"
	"github.com/go-openapi/validate"
)

// described is what the OpenAPI document of a node says of its calls, and which of them have
// answered so.
type described struct {
	calls    map[string]call // by method and path, as the document has it
	forms    spec.Definitions
	answered map[string]bool
}

// call is one of the document.
type call struct {
	path   *regexp.Regexp
	answer *spec.Schema // of 200
}

// describedBy reads the document. That an object may have what is not in its schema the document
// leaves open, as all do; here it is taken at its word.
func (w *web) describedBy() *described {
	w.t.Helper()
	code, _, text := w.ask("", "GET", "/v1/openapi.json", "")
	var all map[string]any
	if err := json.Unmarshal([]byte(text), &all); err != nil || code != 200 {
		w.t.Fatal(code, err)
	}
	closed(all)
	strict, err := json.Marshal(all)
	if err != nil {
		w.t.Fatal(err)
	}
	doc, err := loads.Analyzed(strict, "")
	if err == nil {
		doc, err = doc.Expanded()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	d := &described{map[string]call{}, doc.Spec().Definitions, map[string]bool{}}
	for path, item := range doc.Spec().Paths.Paths {
		var parts []string
		for _, fixed := range variable.Split(path, -1) {
			parts = append(parts, regexp.QuoteMeta(fixed))
		}
		at := regexp.MustCompile("^" + strings.Join(parts, "[^/]+") + "$")
		for method, op := range map[string]*spec.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "DELETE": item.Delete} {
			if op != nil {
				d.calls[method+" "+path] = call{at, op.Responses.StatusCodeResponses[200].Schema}
			}
		}
	}
	return d
}

// closed lets no object of a document have more than its properties.
func closed(at any) {
	switch at := at.(type) {
	case map[string]any:
		if _, ok := at["properties"].(map[string]any); ok && at["type"] == "object" && at["additionalProperties"] == nil {
			at["additionalProperties"] = false
		}
		for _, v := range at {
			closed(v)
		}
	case []any:
		for _, v := range at {
			closed(v)
		}
	}
}

// saw notes a good answer to a call, and says what of it is not as the document has it.
func (d *described) saw(method, path string, answer any) (wrong error) {
	path, _, _ = strings.Cut(path, "?")
	for name, c := range d.calls {
		if verb, _, _ := strings.Cut(name, " "); verb == method && c.path.MatchString(path) {
			d.answered[name] = true
			return validate.AgainstSchema(c.answer, answer, strfmt.Default)
		}
	}
	return fmt.Errorf("the document has no %s %s", method, path)
}

// missing are the calls without an answer.
func (d *described) missing(t *testing.T) {
	for name := range d.calls {
		if !d.answered[name] {
			t.Errorf("%s has no right answer in this test", name)
		}
	}
}
