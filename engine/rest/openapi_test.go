package rest

import (
	"encoding/json"
	"testing"

	"github.com/go-openapi/loads"
	"github.com/go-openapi/strfmt"
	"github.com/go-openapi/validate"
)

// TestValid: the document is one of OpenAPI 2.0, as a validator of it sees it.
func TestValid(t *testing.T) {
	status, text := served(t, &service{})("GET", "/v1/openapi.json", "")
	if status != 200 {
		t.Fatal(status, text)
	}
	doc, err := loads.Analyzed(json.RawMessage(text), "")
	if err != nil {
		t.Fatal(err)
	}
	wrong, doubtful := validate.NewSpecValidator(doc.Schema(), strfmt.Default).Validate(doc)
	for _, err := range wrong.Errors {
		t.Error(err)
	}
	for _, err := range doubtful.Warnings {
		t.Error("a warning: ", err)
	}
}
