package config

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// span is a part of the text.
type span struct{ offset, length int }

// value is one value of a document, with its places in the text.
type value struct {
	kind   unstable.Kind // Table also for inline tables, Array also for [[tables]]
	key    span          // of its last key; of an item, the list's
	place  span          // of the value; of a table or list, the key
	text   string        // of what is neither table nor list
	names  []string      // of a table, as they come
	fields map[string]*value
	items  []*value
}

// field is a value of the table v; v itself if there is none, so that a place
// is always found.
func (v *value) field(name string) *value {
	if f := v.fields[name]; f != nil {
		return f
	}
	return v
}

// item is a value of the list v, or v.
func (v *value) item(i int) *value {
	if i < len(v.items) {
		return v.items[i]
	}
	return v
}

// has reports whether the table v has that key.
func (v *value) has(name string) bool { return v.fields[name] != nil }

// Unmarked is a text without the byte order mark that some editors put in front of UTF-8.
func Unmarked(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\ufeff")) }

// IsUTF16 reports whether a text is UTF-16, which some editors call Unicode: its mark is in front, or
// every other byte of its beginning is 0.
func IsUTF16(text []byte) bool {
	if len(text) < 2 {
		return false
	}
	mark := [2]byte(text)
	return mark == [2]byte{0xff, 0xfe} || mark == [2]byte{0xfe, 0xff} || (mark[0] == 0) != (mark[1] == 0)
}

// NotUTF16 is what to say of such a text.
const NotUTF16 = "this is UTF-16, which some editors call Unicode: save it as UTF-8"

// parse reads a document, or says where it is none.
func parse(data []byte) (*value, *problem) {
	if IsUTF16(data) {
		return nil, &problem{text: NotUTF16}
	}
	var all map[string]any
	if err := toml.Unmarshal(data, &all); err != nil { // checks what spans several lines, too
		return nil, syntax(data, err)
	}
	root := newTable(span{}, span{})
	into := root
	var p unstable.Parser
	for p.Reset(data); p.NextExpression(); {
		switch e := p.Expression(); e.Kind {
		case unstable.Table:
			into = root.open(e.Key())
		case unstable.ArrayTable:
			into = root.append(e.Key())
		case unstable.KeyValue:
			into.set(e)
		}
	}
	if err := p.Error(); err != nil {
		return nil, syntax(data, err)
	}
	return root, nil
}

// syntax is what the parser has against a text.
func syntax(data []byte, err error) *problem {
	var d *toml.DecodeError
	if !errors.As(err, &d) {
		return &problem{text: "this is no TOML: " + err.Error()}
	}
	row, column := d.Position()
	offset := 0
	for range row - 1 {
		offset += bytes.IndexByte(data[offset:], '\n') + 1
	}
	offset = min(offset+column-1, len(data))
	_, length := utf8.DecodeRune(data[offset:])
	begin, end := bytes.LastIndexByte(data[:offset], '\n')+1, len(data)
	if i := bytes.IndexByte(data[offset:], '\n'); i >= 0 {
		end = offset + i
	}
	hint := syntaxHint(string(data[begin:end]), offset-begin)
	return &problem{at: span{offset, length}, hint: hint, text: strings.TrimPrefix(d.Error(), "toml: ")}
}

func newTable(key, place span) *value {
	return &value{kind: unstable.Table, key: key, place: place, fields: map[string]*value{}}
}

func spanOf(r unstable.Range) span { return span{int(r.Offset), int(r.Length)} }

// child is the table of that name in v, which is made if it is not there. Of a
// list of tables the last one counts, as in TOML.
func (v *value) child(name string, at span) *value {
	c := v.fields[name]
	if c == nil {
		c = newTable(at, at)
		v.put(name, c)
	}
	if c.kind == unstable.Array && len(c.items) > 0 {
		return c.items[len(c.items)-1]
	}
	return c
}

func (v *value) put(name string, c *value) {
	if v.fields == nil { // a scalar has no fields; the library has refused such a document
		return
	}
	v.names = append(v.names, name)
	v.fields[name] = c
}

// open finds the table of a [header].
func (v *value) open(keys unstable.Iterator) *value {
	for keys.Next() {
		k := keys.Node()
		v = v.child(string(k.Data), spanOf(k.Raw))
	}
	return v
}

// append makes the table of a [[header]].
func (v *value) append(keys unstable.Iterator) *value {
	for keys.Next() {
		k := keys.Node()
		at := spanOf(k.Raw)
		if !keys.IsLast() {
			v = v.child(string(k.Data), at)
			continue
		}
		list := v.fields[string(k.Data)]
		if list == nil {
			list = &value{kind: unstable.Array, key: at, place: at}
			v.put(string(k.Data), list)
		}
		item := newTable(at, at)
		list.items = append(list.items, item)
		v = item
	}
	return v
}

// set puts a key and its value into v.
func (v *value) set(e *unstable.Node) {
	for keys := e.Key(); keys.Next(); {
		k := keys.Node()
		if !keys.IsLast() {
			v = v.child(string(k.Data), spanOf(k.Raw))
			continue
		}
		v.put(string(k.Data), valueOf(e.Value(), spanOf(k.Raw)))
	}
}

func valueOf(n *unstable.Node, key span) *value {
	switch n.Kind {
	case unstable.Array:
		list := &value{kind: unstable.Array, key: key, place: key}
		for items := n.Children(); items.Next(); {
			if items.Node().Kind != unstable.Comment {
				list.items = append(list.items, valueOf(items.Node(), key))
			}
		}
		return list
	case unstable.InlineTable:
		t := newTable(key, spanOf(n.Raw))
		for pairs := n.Children(); pairs.Next(); {
			if pairs.Node().Kind == unstable.KeyValue {
				t.set(pairs.Node())
			}
		}
		return t
	}
	return &value{kind: n.Kind, key: key, place: spanOf(n.Raw), text: string(n.Data)}
}
