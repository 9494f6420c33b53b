package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/cmd/pannier/bench"
)

// references are the cases others are compared with, where they have run.
func references() []string { return []string{"raw-tcp", "raw-tls", "grpc-chunk-64k"} }

// transferTable shows each case, and its rate and processor time as multiples
// of the reference cases': more is better in "rate", less in "cpu".
func transferTable(results []bench.TransferResult) command.Table {
	header := []string{"case", "GiB/s", "CPU s/GiB", "source MiB", "sink MiB"}
	var refs []bench.TransferResult
	for _, name := range references() {
		if i := slices.IndexFunc(results, func(r bench.TransferResult) bool { return r.Case == name }); i >= 0 {
			refs = append(refs, results[i])
			header = append(header, "rate/"+name, "cpu/"+name)
		}
	}
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{r.Case, number(r.Rate), number(r.CPU), whole(r.SourceRSS), whole(r.SinkRSS)}
		for _, ref := range refs {
			rows[i] = append(rows[i], ratio(r.Rate, ref.Rate), ratio(r.CPU, ref.CPU))
		}
	}
	return command.Table{Header: header, Rows: rows}
}

// callTable shows each case, and its processor time as a multiple of the first
// one's.
func callTable(results []bench.CallResult) command.Table {
	header := []string{"case", "p50 us", "p99 us", "CPU us/call", "round trips", "with slow start", "cpu/" + results[0].Case}
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{r.Case, whole(r.P50), whole(r.P99), whole(r.CPU), number(r.RoundTrips), number(r.OverTCP), ratio(r.CPU, results[0].CPU)}
	}
	return command.Table{Header: header, Rows: rows}
}

func engineTable(results []bench.EngineResult) command.Table {
	header := []string{"case", "transfers/s", "MiB/s", "CPU ms", "p50 ms", "p99 ms", "RSS MiB", "submits/s", "submits ratio", "start s", "against", "rate ratio", "CPU ratio"}
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{r.Case, figure(r.PerSecond), figure(r.Rate), figure(r.CPU), figure(r.P50), figure(r.P99), whole(r.MaxRSS), figure(r.Submit), figure(r.SubmitBy), figure(r.Start), orDash(r.Against), figure(r.AgainstBy), figure(r.CPUBy)}
	}
	return command.Table{Header: header, Rows: rows}
}

func bridgeTable(results []bench.BridgeResult) command.Table {
	header := []string{"case", "GiB/s", "CPU s/GiB", "per s", "ms each", "CPU ms each", "p50 us", "p99 us", "first call ms", "RSS MiB", "against", "rate ratio"}
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{r.Case, figure(r.Rate), figure(r.CPU), figure(r.PerSecond), figure(r.Each), figure(r.EachCPU), figure(r.P50), figure(r.P99), figure(r.FirstCall), figure(r.RSS), orDash(r.Against), figure(r.AgainstBy)}
	}
	return command.Table{Header: header, Rows: rows}
}

// figure shows "-" for what was not measured.
func figure(v float64) string {
	if v == 0 {
		return "-"
	}
	return number(v)
}

// waysTable shows "-" for what was not measured.
func waysTable(results []bench.RelayResult) command.Table {
	header := []string{"case", "GiB/s", "by direct", "CPU s/GiB", "ping p50 us", "p99", "more p50", "idle entry MiB", "exit MiB", "opened/s", "p99 us", "lost",
		"alone p99 us", "busy p50", "p99", "busy GiB/s", "transfer", "flood p50 us", "p99", "flood GiB/s", "datagrams/s", "CPU us", "missing", "dropped", "disorder"}
	some := func(show func(float64) string, v float64) string {
		if v == 0 {
			return "-"
		}
		return show(v)
	}
	count := func(n int64, measured float64) string {
		if measured == 0 {
			return "-"
		}
		return strconv.FormatInt(n, 10)
	}
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{r.Case, some(number, r.Rate), some(number, r.RateBy), some(number, r.CPU), some(whole, r.P50), some(whole, r.P99), some(whole, r.P50More),
			some(whole, r.IdleEntry), some(whole, r.IdleExit), some(whole, r.Opened), some(whole, r.ChurnP99), count(r.Lost, r.Opened),
			some(whole, r.AloneP99), some(whole, r.BusyP50), some(whole, r.BusyP99), some(number, r.BusyRate), some(number, r.TransferRate),
			some(whole, r.FloodP50), some(whole, r.FloodP99), some(number, r.FloodRate),
			some(whole, r.Datagrams), some(number, r.DatagramCPU), count(r.Missing, r.Datagrams), count(r.Dropped, r.Datagrams), count(r.Disorder, r.Datagrams)}
	}
	return command.Table{Header: header, Rows: rows}
}

func mixedTable(results []bench.MixedResult) command.Table {
	header := []string{"case", "idle p50 us", "idle p99 us", "busy p50 us", "busy p99 us", "busy/idle p99", "bulk GiB/s"}
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{r.Case, whole(r.IdleP50), whole(r.IdleP99), whole(r.BusyP50), whole(r.BusyP99),
			ratio(r.BusyP99, r.IdleP99), number(r.Rate)}
	}
	return command.Table{Header: header, Rows: rows}
}

func number(v float64) string { return fmt.Sprintf("%.2f", v) }
func whole(v float64) string  { return fmt.Sprintf("%.0f", v) }

// ratio shows "-" where there is nothing to divide by.
func ratio(v, by float64) string {
	if by == 0 {
		return "-"
	}
	return number(v / by)
}

func resumeTable(results []bench.ResumeResult) command.Table {
	header := []string{"case", "gave up at %", "resumed at %", "moved again %", "moved twice MiB"}
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{r.Case, number(r.GaveUp), number(r.From), number(r.Moved), number(r.Twice)}
	}
	return command.Table{Header: header, Rows: rows}
}
