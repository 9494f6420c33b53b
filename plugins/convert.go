package plugins

import (
	"time"

	"github.com/pannier/pannier/spec/bridgepb"
)

// What a driver says, as messages of spec/bridgepb.

func attrMessage(a Attr) *bridgepb.Attr {
	m := &bridgepb.Attr{Name: a.Name, Size: a.Size, Dir: a.Dir, Verified: a.Verified}
	if !a.Modified.IsZero() && a.Modified.Year() > 1678 && a.Modified.Year() < 2262 { // what nanoseconds can say
		m.Modified = a.Modified.UnixNano()
	}
	return m
}

func capabilitiesMessage(c Capabilities) *bridgepb.Capabilities {
	return &bridgepb.Capabilities{Offsets: c.Offsets, Write: c.Write, Resume: c.Resume, Atomic: c.Atomic, List: c.List, Rename: c.Rename,
		Remove: c.Remove, Mkdir: c.Mkdir, Checksums: c.Checksums, Copy: c.Copy, Notes: c.Notes, Kept: c.Kept, Single: c.Single}
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
