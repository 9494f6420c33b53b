package config

import "fmt"

// What is found wrong with a configuration beyond its text, as that this host has no such
// directory, is said with the same places.

// document is the text of a configuration with what was applied, and its tree.
type document struct {
	problems
	root *value // nil: it was not read from a text
}

// Wrong collects what is wrong with sections of a configuration.
type Wrong struct{ document }

// Wrong is for what is wrong with sections of c, without anything yet.
func (c *Config) Wrong() *Wrong {
	return &Wrong{document{problems{file: c.text.file, data: c.text.data, parts: c.text.parts}, c.text.root}}
}

// Add notes what is wrong with the section of that kind whose key has that value, as "folder",
// "name", "in". The place is that of its value of the key at; hint, which may be empty, says
// what to do.
func (w *Wrong) Add(kind, key, value, at, hint, format string, args ...any) {
	text := fmt.Sprintf("%s %s: %s", kind, value, fmt.Sprintf(format, args...))
	if w.root == nil {
		w.file = "the configuration"
		w.add(span{}, hint, "%s", text)
		return
	}
	place := span{}
	if list := w.root.fields[kind]; list != nil {
		for _, section := range list.items {
			if f := section.fields[key]; f != nil && f.text == value {
				place = section.field(at).place
			}
		}
	}
	w.add(place, hint, "%s", text)
}

// Err is nil if nothing is wrong. Else it is Invalid, and Lines has a line for each.
func (w *Wrong) Err() error { return w.err() }
