package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func TestExitCode(t *testing.T) {
	codes := map[fault.Kind]int{
		fault.Invalid: 2, fault.Permission: 4, fault.Unauthenticated: 4, fault.NotFound: 5, fault.Corrupt: 6,
		fault.SourceChanged: 6, fault.Lost: 7, fault.DeadPeer: 7, fault.Deadline: 7, fault.Draining: 7,
		fault.NoSpace: 10, fault.QuotaExceeded: 10, fault.Refused: 11, fault.Canceled: 130,
	}
	for _, k := range fault.Kinds() {
		want := codes[k]
		if want == 0 {
			want = exitFailed
		}
		if got := exitCode(fault.New("test", k, "x"), false); got != want {
			t.Errorf("%v: %d, want %d", k, got, want)
		}
		if !strings.Contains("\n"+exitText, fmt.Sprintf("\n%-5d", want)) {
			t.Errorf("%d is not in the text", want)
		}
	}
	if exitCode(nil, false) != 0 || exitCode(fault.New("test", fault.Lost, "x"), true) != exitSome {
		t.Error("done or partial")
	}
}

func TestRunReturnsTheCode(t *testing.T) {
	for _, c := range []struct {
		args string
		want int
	}{{"version", 0}, {"--colour", 2}, {"fly", 2}, {"bench fly", 2}, {"version now", 2}, {"bench rpc --cases x", 2}} {
		var out, messages bytes.Buffer
		got := run(t.Context(), strings.Fields(c.args), nil, &out, &messages)
		if got != c.want || (messages.Len() > 0) != (got != 0) || (out.Len() > 0) != (got == 0) {
			t.Errorf("%s: %d, stdout %q, stderr %q", c.args, got, &out, &messages)
		}
	}
}
