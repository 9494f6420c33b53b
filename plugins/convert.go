package plugins

import (
	"time"

	"github.com/pannier/pannier/spec/bridgepb"
)

// What a driver says, as messages of spec/bridgepb.

func attrMessage(a Attr) *bridgepb.Attr {
	return &bridgepb.Attr{Name: a.Name, Size: a.Size, Modified: Nanoseconds(a.Modified), Dir: a.Dir, Verified: a.Verified}
}

// Nanoseconds is a time as messages have it, since 1970; 0: none, or one that they cannot say.
func Nanoseconds(t time.Time) int64 {
	if t.IsZero() || t.Year() <= 1678 || t.Year() >= 2262 {
		return 0
	}
	return t.UnixNano()
}

// TimeOf is the time that Nanoseconds has made of.
func TimeOf(n int64) (t time.Time) {
	if n != 0 {
		t = time.Unix(0, n)
	}
	return t
}

func capabilitiesMessage(c Capabilities) *bridgepb.Capabilities {
	return &bridgepb.Capabilities{Offsets: c.Offsets, Write: c.Write, Resume: c.Resume, Atomic: c.Atomic, List: c.List, Rename: c.Rename,
		Remove: c.Remove, Mkdir: c.Mkdir, Checksums: c.Checksums, Copy: c.Copy, Notes: c.Notes, Kept: c.Kept, Single: c.Single, Times: c.Times, Verdict: c.Verdict}
}

func descriptionMessage(d Description, channels, server bool) *bridgepb.DescribeReply {
	m := &bridgepb.DescribeReply{Version: ContractVersion, Name: d.Name, PluginVersion: d.Version, Schemes: d.Schemes, Channels: channels, Server: server}
	m.Options, m.ListenOptions = optionMessages(d.Options), optionMessages(d.Listen)
	return m
}

func optionMessages(all []Option) (messages []*bridgepb.Option) {
	for _, o := range all {
		messages = append(messages, &bridgepb.Option{Name: o.Name, Help: o.Help, Default: o.Default})
	}
	return messages
}

// ContractVersion is of spec/bridgepb.
const ContractVersion = 1

// drainTime is the most a Drain waits where its call has no deadline.
const drainTime = time.Minute
