package host

import (
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/bridgepb"
)

// What a plugin says, as types of package plugins.

func attr(m *bridgepb.Attr) plugins.Attr {
	a := plugins.Attr{Name: m.GetName(), Size: max(m.GetSize(), -1), Dir: m.GetDir(), Verified: m.GetVerified()}
	if m.GetModified() != 0 {
		a.Modified = time.Unix(0, m.GetModified())
	}
	return a
}

func capabilities(m *bridgepb.Capabilities) plugins.Capabilities {
	return plugins.Capabilities{Offsets: m.GetOffsets(), Write: m.GetWrite(), Resume: m.GetResume(), Atomic: m.GetAtomic(), List: m.GetList(),
		Rename: m.GetRename(), Remove: m.GetRemove(), Mkdir: m.GetMkdir(), Checksums: m.GetChecksums(), Copy: m.GetCopy(), Notes: m.GetNotes(), Kept: m.GetKept(), Single: m.GetSingle()}
}

func description(m *bridgepb.DescribeReply) plugins.Description {
	d := plugins.Description{Name: m.GetName(), Version: m.GetPluginVersion(), Schemes: m.GetSchemes()}
	d.Options, d.Listen = options(m.GetOptions()), options(m.GetListenOptions())
	return d
}

func options(messages []*bridgepb.Option) (all []plugins.Option) {
	for _, o := range messages {
		all = append(all, plugins.Option{Name: o.GetName(), Help: o.GetHelp(), Default: o.GetDefault()})
	}
	return all
}
