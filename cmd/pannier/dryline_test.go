package main

import (
	"slices"
	"testing"

	"github.com/pannier/pannier/spec/adminpb"
)

// TestNamesAreNoFlags: a line that is printed is read back with the names it has, whatever they
// begin with, and control characters are written as JSON has them.
func TestNamesAreNoFlags(t *testing.T) {
	get := func(target string) []string {
		return runnable(batchItem{kind: "get", order: &adminpb.SubmitRequest{Partner: "p", Source: "s", Target: target, Rule: "in", Id: "1"}}, nil)
	}
	if got, want := get("x"), []string{"pannier", "get", "p:s", "x", "--rule=in", "--id=1"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got, want := get("-x"), []string{"pannier", "get", "--rule=in", "--id=1", "--", "p:s", "-x"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := escaped("{\"a\":\"\x7f\u009bé\"}"); got != `{"a":"\u007f\u009bé"}` {
		t.Errorf("%s", got)
	}
}
