package host

import (
	"strings"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// What a plugin says, as types of package plugins.

func attr(m *bridgepb.Attr) plugins.Attr {
	return plugins.Attr{Name: m.GetName(), Size: max(m.GetSize(), -1), Modified: plugins.TimeOf(m.GetModified()), Dir: m.GetDir(), Verified: verified(m.GetVerified())}
}

// mostVerified is the most bytes of a word for what was compared: a record has room for two.
const mostVerified = 24

// verified is what a plugin says to have compared; nothing, if that is no such word.
func verified(by string) string {
	if len(by) > mostVerified || strings.ContainsFunc(by, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return ""
	}
	return by
}

// resume is what a plugin goes on from, if it keeps to the limit: more could not be given back.
func resume(b []byte) ([]byte, error) {
	if len(b) > plugins.MaxResume {
		return nil, fault.New("go on", fault.Protocol, "what the plugin wants kept has %d bytes, the limit is %d", len(b), plugins.MaxResume)
	}
	return b, nil
}

// text is what a plugin says in an error, of a length that a record has room for.
func text(s string) string {
	const most = 2 * plugins.MaxName // as package plugins keeps it
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

func capabilities(m *bridgepb.Capabilities) plugins.Capabilities {
	return plugins.Capabilities{Offsets: m.GetOffsets(), Write: m.GetWrite(), Resume: m.GetResume(), Atomic: m.GetAtomic(), List: m.GetList(),
		Rename: m.GetRename(), Remove: m.GetRemove(), Mkdir: m.GetMkdir(), Checksums: m.GetChecksums(), Copy: m.GetCopy(), Notes: m.GetNotes(), Kept: m.GetKept(), Single: m.GetSingle(), Times: m.GetTimes(), Verdict: m.GetVerdict()}
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
