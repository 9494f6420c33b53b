package wire

import (
	"fmt"
	"unicode/utf8"
)

// limits keeps the first field found to be out of its limits.
type limits struct{ first error }

// of is what Check returns for a struct that travels in t.
func (l *limits) of(t Type) error {
	if l.first == nil {
		return nil
	}
	return broken("check "+t.String(), "%w", l.first)
}

func (l *limits) holds(ok bool, format string, args ...any) {
	if !ok && l.first == nil {
		l.first = fmt.Errorf(format, args...)
	}
}

func (l *limits) text(field, s string, limit int) {
	l.holds(len(s) <= limit, "%s has %d bytes; at most %d", field, len(s), limit)
	l.holds(utf8.ValidString(s), "%s is not UTF-8", field)
}

func (l *limits) bytes(field string, b []byte, limit int) {
	l.holds(len(b) <= limit, "%s has %d bytes; at most %d", field, len(b), limit)
}

func (l *limits) most(field string, n, limit uint64) {
	l.holds(n <= limit, "%s is %d; at most %d", field, n, limit)
}

func (l *limits) features(list []string) {
	l.holds(len(list) <= MaxFeatures, "Features has %d entries; at most %d", len(list), MaxFeatures)
	for _, f := range list[:min(len(list), MaxFeatures)] {
		l.text("Features", f, MaxFeature)
	}
}

// Check implements Message.
func (m Hello) Check() error {
	var l limits
	l.holds(m.MinVersion >= 1 && m.MinVersion <= m.MaxVersion, "versions %d to %d", m.MinVersion, m.MaxVersion)
	l.holds(m.Purpose >= Control && m.Purpose <= RPC, "Purpose is %d", m.Purpose)
	l.text("Name", m.Name, MaxName)
	l.features(m.Features)
	l.most("Window", m.Window, MaxOffset)
	return l.of(m.frame())
}

// Check implements Message.
func (m HelloAck) Check() error {
	var l limits
	l.holds(m.Kind != 0 || m.Version >= 1, "Version is 0 and nothing is refused")
	l.text("Name", m.Name, MaxName)
	l.features(m.Features)
	l.most("Window", m.Window, MaxOffset)
	l.text("Text", m.Text, MaxText)
	return l.of(m.frame())
}

// Check implements Message.
func (m Open) Check() error {
	var l limits
	l.holds(m.Kind != "", "Kind is empty")
	l.text("Kind", m.Kind, MaxKind)
	l.most("BlockSize", uint64(m.BlockSize), MaxFrame)
	l.most("Start", m.Start, MaxOffset)
	l.most("Window", m.Window, MaxOffset)
	l.most("Class", uint64(m.Class), uint64(ClassBulk))
	l.bytes("Meta", m.Meta, MaxMeta)
	return l.of(m.frame())
}

// Check implements Message.
func (m Accept) Check() error {
	var l limits
	l.most("BlockSize", uint64(m.BlockSize), MaxFrame)
	l.most("Start", m.Start, MaxOffset)
	l.most("Window", m.Window, MaxOffset)
	l.bytes("Meta", m.Meta, MaxMeta)
	return l.of(m.frame())
}

// Check implements Message.
func (m End) Check() error {
	var l limits
	l.most("Total", m.Total, MaxOffset)
	l.bytes("Trailer", m.Trailer, MaxMeta)
	return l.of(m.frame())
}

// Check implements Message.
func (m Verdict) Check() error {
	var l limits
	l.bytes("Body", m.Body, MaxMeta)
	return l.of(m.frame())
}

// Check implements Message.
func (m Reset) Check() error {
	var l limits
	l.text("Text", m.Text, MaxText)
	return l.of(m.frame())
}

// Check implements Message.
func (m GoAway) Check() error {
	var l limits
	l.text("Text", m.Text, MaxText)
	return l.of(m.frame())
}

// Check implements Message.
func (m Close) Check() error {
	var l limits
	l.text("Text", m.Text, MaxText)
	return l.of(m.frame())
}

// Check implements Message.
func (m Resume) Check() error {
	var l limits
	l.holds(len(m.Streams) <= MaxResume, "Streams has %d entries; at most %d", len(m.Streams), MaxResume)
	for _, s := range m.Streams {
		l.holds(s.ID != 0, "Streams names the session")
		l.most("Received", s.Received, MaxOffset)
		l.most("Durable", s.Durable, MaxOffset)
		l.most("Window", s.Window, MaxOffset)
	}
	return l.of(m.frame())
}
