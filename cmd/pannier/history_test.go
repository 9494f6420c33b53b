package main

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/pannier/pannier/spec/adminpb"
)

// TestExportStreams: what is printed is out before much more has come, so that memory does
// not depend on how long the history is.
func TestExportStreams(t *testing.T) {
	for _, format := range []string{"csv", "jsonl"} {
		var out bytes.Buffer
		e := newExport(&out, format)
		rows := 0
		for i := range 20_000 {
			if err := e.add(&adminpb.Request{Id: fmt.Sprintf("%032x", i), Source: "a", State: adminpb.Request_DONE}); err != nil {
				t.Fatal(err)
			}
			rows += bytes.Count(out.Bytes(), []byte("\n"))
			if behind := i - rows; behind > 200 {
				t.Fatalf("%s: %d requests are kept", format, behind)
			}
			out.Reset()
		}
		if err := e.close(); err != nil {
			t.Fatal(err)
		}
	}
}
