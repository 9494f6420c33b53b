package main

import (
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/audit"
)

// TestShowAudit: a refused order is shown with why, and with what it was about.
func TestShowAudit(t *testing.T) {
	dir := t.TempDir()
	l, err := audit.Open(audit.Config{Dir: dir, Node: "hosta", Each: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []audit.Entry{
		{Who: "token ci", Do: "DeleteObject", Detail: `{"kind":"rule"}`, Error: "refused"},
		{Who: "token ci", Do: "Cancel", On: "60dab18b", Error: "not found"},
		{Who: "uid 0", Do: "Reload"},
	} {
		if err := l.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := showAudit(&out, dir, false, func(*audit.Record) bool { return true }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"DeleteObject\t-\trefused; {\"kind\":\"rule\"}\n", "Cancel\t60dab18b\tnot found\n", "Reload\t-\t-\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in %q", want, out.String())
		}
	}
}
