package main

import (
	"slices"
	"testing"

	"github.com/pannier/pannier/cmd/pannier/bench"
)

func TestTransferTable(t *testing.T) {
	got := transferTable([]bench.TransferResult{
		{Case: "raw-tcp", Rate: 2, CPU: 0.5, SourceRSS: 14.2, SinkRSS: 15},
		{Case: "session-tcp", Rate: 1.5, CPU: 1, SourceRSS: 20, SinkRSS: 120},
	})
	want := [][]string{
		{"case", "GiB/s", "CPU s/GiB", "source MiB", "sink MiB", "rate/raw-tcp", "cpu/raw-tcp"},
		{"raw-tcp", "2.00", "0.50", "14", "15", "1.00", "1.00"},
		{"session-tcp", "1.50", "1.00", "20", "120", "0.75", "2.00"},
	}
	if !slices.EqualFunc(append([][]string{got.Header}, got.Rows...), want, slices.Equal) {
		t.Error(got)
	}
}

func TestTablesWithNothingToCompare(t *testing.T) {
	calls := callTable([]bench.CallResult{{Case: "plain-grpc"}})
	if len(calls.Rows) != 1 || calls.Rows[0][6] != "-" {
		t.Error(calls)
	}
	mixed := mixedTable([]bench.MixedResult{{Case: "session-tcp"}})
	if len(mixed.Rows) != 1 || len(mixed.Rows[0]) != len(mixed.Header) {
		t.Error(mixed)
	}
	if one := transferTable([]bench.TransferResult{{Case: "session-tcp"}}); len(one.Header) != 5 || len(one.Rows[0]) != 5 {
		t.Error(one)
	}
}

// TestWaysTable: each figure is under its name, and what was not measured is a dash.
func TestWaysTable(t *testing.T) {
	got := waysTable([]bench.RelayResult{
		{Case: "direct"},
		{Case: "relay-tcp", Opened: 1000, ChurnP99: 2345, AloneP99: 678},
	})
	of := func(column string) []string {
		i := slices.Index(got.Header, column)
		return []string{got.Rows[0][i], got.Rows[0][i+1], got.Rows[0][i+2], got.Rows[1][i], got.Rows[1][i+1], got.Rows[1][i+2]}
	}
	if churn := of("opened/s"); !slices.Equal(churn, []string{"-", "-", "-", "1000", "2345", "0"}) {
		t.Error(churn)
	}
	if alone := of("alone p99 us"); alone[0] != "-" || alone[3] != "678" {
		t.Error(alone)
	}
	for _, row := range got.Rows {
		if len(row) != len(got.Header) {
			t.Errorf("%d cells under %d", len(row), len(got.Header))
		}
	}
}
