package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/spec/adminpb"
)

// view is how values are shown: short for people at a terminal, whole and exact for
// programs.
type view struct {
	people bool
	now    time.Time
}

func (c *console) view(w io.Writer) view { return view{command.Terminal(w), c.now()} }

// shownDigits is how many digits of an id people see. They are enough to name it,
// most likely; the daemon says so when they are not.
const shownDigits = 8

func (v view) id(id string) string {
	if v.people && len(id) > shownDigits {
		return id[:shownDigits]
	}
	return id
}

// bytes shows -1, which nobody knows, as "-".
func (v view) bytes(n int64) string {
	switch {
	case n < 0:
		return "-"
	case v.people:
		return humanize.IBytes(uint64(n))
	}
	return strconv.FormatInt(n, 10)
}

// time is how long ago, or until when, or the time itself.
func (v view) time(t *timestamppb.Timestamp) string {
	switch {
	case t == nil:
		return "-"
	case !v.people:
		return t.AsTime().Format("2006-01-02T15:04:05.000Z")
	}
	if d := v.now.Sub(t.AsTime()); d < 0 {
		return "in " + short(nearly(-d))
	} else {
		return short(d) + " ago"
	}
}

// nearly is a time to come to the nearest of its largest unit: what begins in 1h59m59s begins in 2h.
func nearly(d time.Duration) time.Duration {
	for _, unit := range []time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour} {
		if d = d.Round(unit); d < 60*unit && unit < time.Hour || d < 48*unit {
			break
		}
	}
	return d
}

// short is a duration in its largest unit, as "4m".
func short(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return "0s"
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	case d < 2*day:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return strconv.Itoa(int(d/day)) + "d"
}

// file is a name that cannot be taken for something else: quoted if it has
// anything that is not seen, or that quotes.
func (v view) file(name string) string {
	q := strconv.Quote(name)
	if name == "" {
		return "-"
	}
	if q[1:len(q)-1] != name || strings.TrimSpace(name) != name || name == "-" {
		return q
	}
	return name
}

// percent is how much of the whole is safe; never 100 before all of it is.
func percent(r *adminpb.Request) string {
	durable, total := r.GetDurable(), r.GetSize()
	if l := r.GetLive(); l != nil {
		durable, total = max(durable, l.GetDurable()), max(total, l.GetTotal())
	}
	switch {
	case r.GetState() == adminpb.Request_DONE:
		return "100%"
	case total < 0:
		return "-"
	case total == 0:
		return "0%"
	case durable >= total:
		return "100%"
	}
	return strconv.Itoa(min(int(float64(durable)/float64(total)*100), 99)) + "%"
}

// way is which way the bytes go, seen from the node; "between" two others in a third-party copy.
func (v view) way(r *adminpb.Request) string {
	s := r.GetSide()
	switch {
	case r.GetThird() != "" && v.people:
		return "⇢"
	case r.GetThird() != "":
		return "between"
	case s == adminpb.Request_SENDER && v.people:
		return "→"
	case s == adminpb.Request_RECEIVER && v.people:
		return "←"
	}
	return strings.ToLower(s.String())
}

// jsonFlag adds --json.
func jsonFlag(cmd *cobra.Command, on *bool) {
	cmd.Flags().BoolVar(on, "json", false, "results as JSON, one object on a line")
}

// writeJSON prints messages of the service, one on a line. protojson varies
// its spaces, on purpose; compacted they are always the same.
func writeJSON[M proto.Message](w io.Writer, all ...M) error {
	var b bytes.Buffer
	for _, m := range all {
		text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
		if err == nil {
			err = json.Compact(&b, text)
		}
		if err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}

// fields are names and values, one pair on a line.
type fields [][2]string

// add appends what has a value.
func (f *fields) add(name, value string) {
	if value != "" && value != "-" {
		*f = append(*f, [2]string{name, value})
	}
}

// write aligns on a terminal, where lines after a value's first are indented;
// elsewhere name and value have a tab between them.
func (f fields) write(w io.Writer) error {
	width := 0
	for _, p := range f {
		width = max(width, len(p[0]))
	}
	for _, p := range f {
		value := command.Printable(p[1])
		line := p[0] + "\t" + strings.ReplaceAll(value, "\n", `\n`)
		if command.Terminal(w) {
			line = fmt.Sprintf("%-*s  %s", width, p[0], strings.ReplaceAll(value, "\n", "\n"+strings.Repeat(" ", width+2)))
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
