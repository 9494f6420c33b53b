package main

import (
	"strings"
	"testing"

	"github.com/pannier/pannier/cmd/pannier/bench"
)

func TestTransferTable(t *testing.T) {
	var b strings.Builder
	err := transferTable(&b, []bench.TransferResult{
		{Case: "raw-tcp", Rate: 2, CPU: 0.5, SourceRSS: 14.2, SinkRSS: 15},
		{Case: "session-tcp", Rate: 1.5, CPU: 1, SourceRSS: 20, SinkRSS: 120},
	})
	const want = `         case  GiB/s  CPU s/GiB  source MiB  sink MiB  rate/raw-tcp  cpu/raw-tcp
  raw-tcp       2.00       0.50          14        15          1.00         1.00
  session-tcp   1.50       1.00          20       120          0.75         2.00
`
	if got := b.String(); err != nil || strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("%v\n%s", err, got)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for _, line := range lines {
		if len(line) != len(lines[0]) {
			t.Errorf("not aligned:\n%s", b.String())
		}
	}
}

func TestTablesWithNothingToCompare(t *testing.T) {
	var b strings.Builder
	if err := callTable(&b, []bench.CallResult{{Case: "plain-grpc"}}); err != nil || !strings.HasSuffix(b.String(), " -\n") {
		t.Errorf("%v\n%s", err, &b)
	}
	if err := mixedTable(&b, []bench.MixedResult{{Case: "session-tcp"}}); err != nil {
		t.Error(err)
	}
	if err := transferTable(&b, []bench.TransferResult{{Case: "session-tcp"}}); err != nil || strings.Contains(b.String(), "rate/") {
		t.Errorf("%v\n%s", err, &b)
	}
}
