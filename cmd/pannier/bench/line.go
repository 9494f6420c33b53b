package bench

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// The parent and an end talk in lines: the parent writes one order, the end
// answers with one line, and nothing is said unasked. The first order is the
// Job itself; the end of stdin ends the end.

// maxLine bounds one line, in bytes.
const maxLine = 64 << 10

// Verbs of an order.
const (
	verbUsage  = "usage"  // what the process has used so far
	verbMove   = "move"   // move Job.Concurrent files once, timed
	verbCalls  = "calls"  // Count calls, one after the other, each timed
	verbBeside = "beside" // the same, each beside a transfer that is moving

	// BenchRelay: its client, but for those that say who else.
	verbBulk      = "bulk"      // Job.Size bytes over one connection
	verbPing      = "ping"      // one byte there and back on one connection, Count times
	verbIdle      = "idle"      // open Count connections, use each once and keep them
	verbChurn     = "churn"     // Count connections, PerSecond of them begun a second, each used once
	verbBusy      = "busy"      // keep Count connections sending PerSecond pieces of 16 KiB, 0: all they can; Count 0: end them
	verbDatagrams = "datagrams" // Count datagrams, PerSecond a second; the server: what has come of them
	verbTransfer  = "transfer"  // a Pannier's entry: a transfer on the session; Count 0: end it
	verbDropped   = "dropped"   // a Pannier's end: datagrams that it has dropped
)

// maxCount bounds Count: the times of the calls are kept, 8 bytes each.
const maxCount = 10_000_000

// order is one line from the parent.
type order struct {
	Verb  string `json:"verb"`
	Count int    `json:"count,omitempty"`

	PerSecond int `json:"per_second,omitempty"`
}

// reply is one line from an end. Exactly the field asked for is set, or Kind.
type reply struct {
	Addr    string     `json:"addr,omitempty"` // to the Job, of all but RoleConnect
	AddrUDP string     `json:"addr_udp,omitempty"`
	Usage   *Usage     `json:"usage,omitempty"`
	Seconds float64    `json:"seconds,omitempty"` // of the move
	Bytes   int64      `json:"bytes,omitempty"`   // moved in Seconds
	Latency *Latency   `json:"latency,omitempty"`
	Counts  *counts    `json:"counts,omitempty"`
	Kind    fault.Kind `json:"kind,omitempty"`
	Text    string     `json:"text,omitempty"`
}

// counts are of connections or datagrams.
type counts struct {
	Sent     int64 `json:"sent,omitempty"`
	Arrived  int64 `json:"arrived,omitempty"`
	Disorder int64 `json:"disorder,omitempty"` // behind one that was sent later
	Lost     int64 `json:"lost,omitempty"`
}

// failure is err in full: both ends of the line are the same user's.
func failure(err error) reply { return reply{Kind: fault.KindOf(err), Text: err.Error()} }

// err is the failure the end reported, nil if none.
func (r reply) err(end string) error {
	if r.Kind == 0 {
		return nil
	}
	return fault.FromPeer(end, r.Kind, r.Text)
}

// lineReader yields the lines of one direction.
type lineReader struct{ s *bufio.Scanner }

func newLineReader(r io.Reader) lineReader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4<<10), maxLine)
	return lineReader{s}
}

// read decodes the next line into v; io.EOF when there is none.
func (l lineReader) read(v any) error {
	if !l.s.Scan() {
		if err := l.s.Err(); err != nil {
			return fault.New("read line", fault.Protocol, "%w", err)
		}
		return io.EOF
	}
	return parseLine(l.s.Text(), v)
}

// parseLine decodes one line, which must be one JSON object of known fields.
func parseLine(text string, v any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fault.New("read line", fault.Protocol, "%q: %w", clip(text), err)
	}
	if d.More() {
		return fault.New("read line", fault.Protocol, "%q: more than one value", clip(text))
	}
	return nil
}

// clip bounds what of a line an error shows.
func clip(text string) string {
	if len(text) > 80 {
		return text[:80] + "..."
	}
	return text
}

func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fault.Wrap("write line", "", err)
	}
	_, err = w.Write(append(b, '\n'))
	return fault.Wrap("write line", "", err)
}
