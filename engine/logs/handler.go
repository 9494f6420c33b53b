package logs

import (
	"context"
	"encoding/hex"
	"log/slog"
	"strconv"
	"strings"
	"unicode"
)

// handler passes lines on, and keeps those of requests.
type handler struct {
	slog.Handler
	logs  *Logs
	group string // what the names of attributes begin with
	told
}

// told is what the attributes of a line say.
type told struct {
	id, partner string
	text        string // those that do not name the request, each with a space before it
}

// Handler is next with lines of requests kept.
func (l *Logs) Handler(next slog.Handler) slog.Handler { return &handler{Handler: next, logs: l} }

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.Handler = h.Handler.WithAttrs(attrs)
	for _, a := range attrs {
		n.take(h.group, a)
	}
	return &n
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	n := *h
	n.Handler = h.Handler.WithGroup(name)
	if name != "" {
		n.group += name + "."
	}
	return &n
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	t := h.told
	r.Attrs(func(a slog.Attr) bool { t.take(h.group, a); return true })
	if isID(t.id) {
		h.logs.add(t.id, entry{Line: Line{At: r.Time, Level: r.Level, Text: clip(r.Message + t.text)}, partner: t.partner})
	}
	return h.Handler.Handle(ctx, r)
}

// take notes an attribute. Who looks at a request's lines knows what names it, and the node.
func (t *told) take(group string, a slog.Attr) {
	v := a.Value.Resolve()
	switch name := group + a.Key; name {
	case "id":
		t.id = v.String()
	case "partner":
		t.partner = v.String()
	case "follow", "role", "side", "rule", "node":
	default:
		if v.Kind() == slog.KindGroup {
			if a.Key != "" {
				group = name + "."
			}
			for _, a := range v.Group() {
				t.take(group, a)
			}
		} else if len(t.text) < mostText {
			t.text += " " + name + "=" + quoted(v.String())
		}
	}
}

// quoted is a value that ends where it seems to.
func quoted(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r == '=' || r == '"' || unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > mostText {
		s = strings.ToValidUTF8(s[:mostText], "") + " ..."
	}
	return s
}

// isID reports whether it is a request's.
func isID(s string) bool {
	if len(s) != 32 {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}
