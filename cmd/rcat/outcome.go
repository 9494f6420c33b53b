package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// outcome is how a transfer went, as --json prints it. Fields are only added.
type outcome struct {
	Type        string  `json:"type"` // "result"
	Call        string  `json:"call"` // "get" or "put"
	Address     string  `json:"address"`
	Path        string  `json:"path"`
	Here        string  `json:"here"`         // status of this end's half
	There       string  `json:"there"`        // status of the server's half
	Bytes       int64   `json:"bytes"`        // acknowledged by, or stored at, the receiving end
	ResumedFrom int64   `json:"resumed_from"` // of Bytes, how many an earlier run had moved
	WireBytes   int64   `json:"wire_bytes"`   // as they travelled
	OverQuota   bool    `json:"over_quota"`   // there were more bytes than the quota
	Road        string  `json:"road"`
	Digest      string  `json:"digest,omitempty"`
	Verified    string  `json:"verified,omitempty"` // what was compared and equal
	Seconds     float64 `json:"seconds"`
	Exit        int     `json:"exit"`
	Kind        string  `json:"kind,omitempty"` // of the error
	Error       string  `json:"error,omitempty"`
	Suggestion  string  `json:"suggestion,omitempty"` // what to do about it, lines
}

func outcomeOf(ctx context.Context, call string, t target, d *sideeffect.Descriptor, err error) outcome {
	o := outcome{
		Type: "result", Call: call, Address: t.address.String(), Path: t.path.String(),
		Here: d.LocalStatus.String(), There: d.RemoteStatus.String(),
		Bytes: d.BytesTransferred, ResumedFrom: d.ResumedFrom, WireBytes: d.Stats.WireBytes, OverQuota: d.QuotaExceeded,
		Road: d.Result.Road.String(), Digest: d.Digest.String(), Verified: d.Verified,
		Seconds: d.Stats.Took().Seconds(), Exit: command.Code(ctx, err),
	}
	if d.LocalStatus == sideeffect.NotStarted {
		o.Road = ""
	}
	if err != nil {
		o.Kind, o.Error = command.KindOf(err).String(), command.Cause(err)
		o.Suggestion = command.Suggestions(err)
	}
	return o
}

// String is the line of --verbose: `get "a/b": 1.2 MiB in 12ms (98 MiB/s), session road, blocks+root`.
func (o outcome) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q: %s in %v (%s), %s road", o.Call, o.Path, humanize.IBytes(uint64(o.Bytes)),
		time.Duration(o.Seconds*float64(time.Second)).Round(10*time.Microsecond), rate(o.Bytes-o.ResumedFrom, o.Seconds), o.Road)
	if o.ResumedFrom > 0 {
		fmt.Fprintf(&b, ", resumed from %s", humanize.IBytes(uint64(o.ResumedFrom)))
	}
	if o.OverQuota {
		b.WriteString(", cut at the quota")
	}
	if o.Verified != "" {
		b.WriteString(", " + o.Verified)
	}
	if o.Digest != "" {
		b.WriteString(", " + o.Digest)
	}
	return b.String()
}

// rate is bytes in seconds, for people.
func rate(bytes int64, seconds float64) string {
	if seconds <= 0 || bytes <= 0 {
		return "-"
	}
	return humanize.IBytes(uint64(float64(bytes)/seconds)) + "/s"
}

// report prints the outcome as the flags say.
func (f *transferFlags) report(cmd *cobra.Command, out io.Writer, o outcome, err error) error {
	if f.json {
		err = errors.Join(err, fault.Wrap("write result", "", command.WriteJSON(out, o)))
	}
	if f.verbose && err == nil {
		fmt.Fprintln(cmd.ErrOrStderr(), o)
	}
	return err
}
