package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// demoText says what to read in the table.
const demoText = `
The calls are those of rcat.proto; what differs is the descriptor that the client attaches.
here/there are the two halves: a transfer is a success only when the receiving half has stored and compared it.
moved is what this run has added to bytes. The digests were compared with those of the files at both ends.`

// step is one transfer of the demo.
type step struct {
	name    string
	here    sideeffect.Descriptor
	call    func(context.Context, *sideeffect.Descriptor) error
	check   func(error, *sideeffect.Result) error // what has to be true of the call's error and the results
	note    string
	problem error // what check said
}

// script is the transfers in their order.
func (d *demo) script() []step {
	to := func(name string) sideeffect.Descriptor {
		return sideeffect.Descriptor{Local: sideeffect.File(d.here, name), Quota: sideeffect.NoQuota}
	}
	put := func(name string) func(context.Context, *sideeffect.Descriptor) error {
		return func(ctx context.Context, here *sideeffect.Descriptor) error {
			return d.client.put(ctx, name, nil, here)
		}
	}
	get := func(name string) func(context.Context, *sideeffect.Descriptor) error {
		return func(ctx context.Context, here *sideeffect.Descriptor) error { return d.client.get(ctx, name, 0, here) }
	}
	large := sideeffect.Descriptor{Local: sideeffect.FD(d.large), Quota: sideeffect.NoQuota}
	stream, over, resumed := to("large.stream"), to("large.over"), to("large.resumed")
	stream.Road = sideeffect.RoadStream
	over.Quota = d.size / 2
	resumed.Resume = true
	return []step{
		{name: "put note", here: to("note"), call: put("note"), check: d.moved(sideeffect.RoadInline, "note"), note: "inside the request"},
		{name: "get note", here: to("note.back"), call: get("note"), check: d.moved(sideeffect.RoadInline, "note.back"), note: "inside the reply"},
		{name: "put large", here: large, call: put("large"), check: d.moved(sideeffect.RoadSession, ""), note: "in blocks beside the call"},
		{name: "get large", here: to("large.back"), call: get("large"), check: d.moved(sideeffect.RoadSession, "large.back"), note: "likewise"},
		{name: "get by stream", here: stream, call: get("large"), check: d.moved(sideeffect.RoadStream, "large.stream"), note: "as through an HTTP/2 proxy"},
		{name: "get over quota", here: over, call: get("large"), check: d.refused("large.over"), note: "fails as it should"},
		{name: "get, cancelled", here: resumed, call: cancelled(get("large")), check: d.kept, note: "fails as it should"},
		{name: "get, resumed", here: resumed, call: get("large"), check: d.continued("large.resumed"), note: "moves only the rest"},
	}
}

// cancelled is call with a client that gives up when the first bytes are stored.
func cancelled(call func(context.Context, *sideeffect.Descriptor) error) func(context.Context, *sideeffect.Descriptor) error {
	return func(ctx context.Context, here *sideeffect.Descriptor) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		here.Progress = func(sideeffect.Progress) { cancel() }
		return call(ctx, here)
	}
}

// moved checks a transfer that succeeds: its road, and that both ends' files
// are what the digest says. local "" is the large file itself.
func (d *demo) moved(road sideeffect.Road, local string) func(error, *sideeffect.Result) error {
	return func(err error, r *sideeffect.Result) error {
		remote := "large"
		if strings.HasPrefix(local, "note") {
			remote = "note"
		}
		if err != nil {
			return err
		}
		there, err := sumOf(d.there.Open(remote))
		if err != nil {
			return err
		}
		open := d.here.Open
		if local == "" {
			open = os.Open
		}
		here, err := sumOf(open(cmp.Or(local, d.large.Name())))
		switch {
		case err != nil:
			return err
		case r.Road != road:
			return failed("it took the %v road, not %v", r.Road, road)
		case here != there || r.Digest.String() != here:
			return failed("the files' digests are %s and %s, the transfer's %s", here, there, r.Digest)
		case r.LocalStatus != sideeffect.Success || r.RemoteStatus != sideeffect.Success:
			return failed("the halves ended as %v and %v", r.LocalStatus, r.RemoteStatus)
		}
		return nil
	}
}

// refused checks a transfer that a quota stops: nothing is left behind.
func (d *demo) refused(local string) func(error, *sideeffect.Result) error {
	return func(err error, r *sideeffect.Result) error {
		if command.KindOf(err) != fault.QuotaExceeded || !r.QuotaExceeded {
			return failed("the quota did not stop it: %v", err)
		}
		left, err := d.leftovers(local)
		if err == nil && len(left) > 0 {
			err = failed("it left %q", left)
		}
		return err
	}
}

// kept checks the cancelled transfer: there is something to continue from, and
// nothing under the final name.
func (d *demo) kept(err error, _ *sideeffect.Result) error {
	if err == nil {
		return failed("it was not cancelled")
	}
	left, err := d.leftovers("large.resumed")
	if err == nil && (len(left) == 0 || left[0] == "large.resumed") {
		err = failed("it left %q", left)
	}
	return err
}

// continued checks the transfer after it.
func (d *demo) continued(local string) func(error, *sideeffect.Result) error {
	return func(err error, r *sideeffect.Result) error {
		if err := d.moved(sideeffect.RoadSession, local)(err, r); err != nil {
			return err
		}
		left, err := d.leftovers(local)
		switch {
		case err != nil:
			return err
		case r.ResumedFrom == 0:
			return failed("it began at the first byte")
		case r.BytesTransferred != d.size || r.Stats.WireBytes >= d.size:
			return failed("%d of %d bytes, %d of them moved again", r.BytesTransferred, d.size, r.Stats.WireBytes)
		case len(left) != 1:
			return failed("it left %q", left)
		}
		return nil
	}
}

// leftovers are the client's files whose names have to do with name.
func (d *demo) leftovers(name string) ([]string, error) {
	dir, err := d.here.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	all, err := dir.Readdirnames(-1)
	var left []string
	for _, n := range all {
		if strings.Contains(n, name) {
			left = append(left, n)
		}
	}
	return left, err
}

func failed(format string, args ...any) error {
	return fault.New("check", fault.Corrupt, format, args...)
}

// sumOf is the digest of a file as a Descriptor gives it; it closes the file.
func sumOf(f *os.File, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), err
}

// writeSteps shows the transfers as a table, and what to read in it.
func writeSteps(w io.Writer, steps []step) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "transfer\troad\tbytes\tmoved\ttime\trate\tverified\there/there\tdigest\t")
	for _, s := range steps {
		r := s.here.Result
		moved := r.BytesTransferred - r.ResumedFrom
		if s.problem != nil {
			s.note = "THE CHECK FAILED"
		}
		fmt.Fprintf(t, "%s\t%v\t%s\t%s\t%v\t%s\t%s\t%v/%v\t%s\t%s\n", s.name, r.Road,
			humanize.Comma(r.BytesTransferred), humanize.Comma(moved), r.Stats.Took().Round(10*time.Microsecond),
			rate(moved, r.Stats.Took().Seconds()), cmp.Or(r.Verified, "-"), r.LocalStatus, r.RemoteStatus, short(r.Digest), s.note)
	}
	if err := t.Flush(); err != nil {
		return fault.Wrap("write demo", "", err)
	}
	_, err := fmt.Fprintln(w, demoText)
	return fault.Wrap("write demo", "", err)
}

// short is enough of a digest to see that two are the same.
func short(s sideeffect.Sum) string {
	if s.IsZero() {
		return "-"
	}
	return s.String()[:len("sha256:")+8]
}
