package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/objects"
	"github.com/pannier/pannier/spec/fault"
)

// Objects are sections of a file that can also be applied while a node runs. They are
// read with the same eyes, together with the file that the node has.

// Kinds are the sections that can be applied while a node runs.
var Kinds = []string{"partner", "rule", "pool", "folder", "schedule", "expect", access.Kind}

// Source is a text with sections, and what messages call it.
type Source struct {
	Name     string
	Text     []byte
	applying bool // it is to be applied, and was not before
}

// SourceOf is an object that was applied before.
func SourceOf(o *objects.Object) Source {
	return Source{Name: fmt.Sprintf("%s %s, applied at run time", o.Kind, o.Name), Text: []byte(o.Text)}
}

// With is the configuration that the file of c, as it was read then, has with other
// objects. Invalid: all that is wrong with them.
func (c *Config) With(extra ...Source) (*Config, error) {
	if c.own == nil {
		return nil, fault.New("read objects", fault.Unsupported, "this configuration was not read from a file")
	}
	return parseFor(c.file.Name, c.file.Text, c.own, func(string) ([]Source, error) { return extra, nil })
}

// Objects are the sections of the file, without those that were applied.
func (c *Config) Objects() []objects.Object {
	all, _ := split(c.file.Text) // it was read before
	return slices.DeleteFunc(all, func(o objects.Object) bool { return o.Name == "" })
}

// Apply is the configuration that c would be with the objects of texts, in the place of those of
// the same kind and name among old. Invalid: all that is wrong with them, each with its place;
// Refused: nothing but that the file has some of them.
func (c *Config) Apply(old objects.Set, texts ...Source) (wanted []objects.Object, _ *Config, err error) {
	for i := range texts {
		texts[i].applying, texts[i].Text = true, Unmarked(texts[i].Text)
		all, _ := split(texts[i].Text) // what is wrong with it is noted below
		for _, o := range all {
			old = old.Without(o.Kind, o.Name)
		}
		wanted = append(wanted, all...)
	}
	var before []Source
	for i := range old.Objects {
		before = append(before, SourceOf(&old.Objects[i]))
	}
	next, err := c.With(append(before, texts...)...)
	return wanted, next, err
}

// sections notes what is in a text that is to be applied and cannot be. root is its tree.
func (p *problems) sections(root *value, text []byte, base int) {
	whole := true
	for _, key := range root.names {
		f := root.fields[key]
		switch one := fmt.Sprintf("write [[%s]]", key); {
		case !slices.Contains(Kinds, key):
			p.add(f.key, "sections here: "+strings.Join(Kinds, ", "), "%q cannot be applied while a node runs%s: it is for the node's file", key, meant(key, Kinds))
			whole = false
		case f.kind != unstable.Array:
			p.add(f.key, one, "a %s is a section of its own", key)
			whole = false
		}
	}
	want := 0
	for _, kind := range Kinds {
		if list := root.fields[kind]; list != nil && list.kind == unstable.Array {
			want += len(list.items)
		}
	}
	if all, _ := split(text); whole && want != len(all) {
		p.add(span{offset: base}, "as [[partner]], in lines of their own", "each object is a section of its own")
	}
}

// split cuts a text into its sections, each with the comments that stand right above it.
func split(data []byte) (all []objects.Object, err error) {
	type cut struct {
		kind string // "": of something else
		at   int
	}
	var cuts []cut
	var p unstable.Parser
	for p.Reset(data); p.NextExpression(); {
		e := p.Expression()
		if e.Kind != unstable.ArrayTable && e.Kind != unstable.Table {
			continue
		}
		keys := e.Key()
		keys.Next()
		first := keys.Node()
		kind, list := string(first.Data), e.Kind == unstable.ArrayTable && keys.IsLast()
		if !list && len(cuts) > 0 && cuts[len(cuts)-1].kind == kind {
			continue // a part of the section before, as [rule.retry]
		}
		if !list || !slices.Contains(Kinds, kind) {
			kind = ""
		}
		cuts = append(cuts, cut{kind, above(data, int(first.Raw.Offset))})
	}
	if err := p.Error(); err != nil {
		return nil, err
	}
	for i, c := range cuts {
		end := len(data)
		if i+1 < len(cuts) {
			end = cuts[i+1].at
		}
		if c.kind == "" {
			continue
		}
		o := objects.Object{Kind: c.kind, Text: string(bytes.TrimSpace(data[c.at:end])) + "\n"}
		if root, wrong := parse([]byte(o.Text)); wrong == nil {
			if v := root.field(c.kind).item(0); v.isText("name") {
				o.Name = v.field("name").text
			}
		}
		all = append(all, o)
	}
	return all, nil
}

// above is where the line of an offset begins, or the comments right above that.
func above(data []byte, offset int) int {
	start := bytes.LastIndexByte(data[:offset], '\n') + 1
	for start > 0 {
		line := bytes.LastIndexByte(data[:start-1], '\n') + 1
		if text := bytes.TrimSpace(data[line:start]); len(text) == 0 || text[0] != '#' {
			break
		}
		start = line
	}
	return start
}

// include appends the sections of more texts to those of the file, whose tree root is. The
// places of their problems are in them.
func (p *problems) include(root *value, extra []Source) {
	for _, s := range extra {
		base := len(p.data) + 1
		p.data = append(append(slices.Clip(p.data), '\n'), s.Text...)
		p.parts = append(p.parts, part{s.Name, base, s.applying})
		more, wrong := parse(s.Text)
		if wrong != nil {
			wrong.at.offset += base
			p.list = append(p.list, *wrong)
			continue
		}
		more.shift(base)
		if s.applying {
			p.sections(more, s.Text, base)
		}
		for _, kind := range Kinds {
			list := more.fields[kind]
			if list == nil || list.kind != unstable.Array {
				continue
			}
			if root.fields[kind] == nil {
				root.put(kind, list)
			} else if root.fields[kind].kind == unstable.Array {
				root.fields[kind].items = append(root.fields[kind].items, list.items...)
			}
		}
	}
}

// shift moves all places of a tree.
func (v *value) shift(by int) {
	v.key.offset += by
	v.place.offset += by
	for _, f := range v.fields {
		f.shift(by)
	}
	for _, i := range v.items {
		i.shift(by)
	}
}

// stateOf is the state directory that a file says; "" if it is none.
func stateOf(root *value) string {
	node := root.field("node")
	switch state := node.fields["state"]; {
	case !root.has("node"):
		return ""
	case state == nil:
		return defaultState
	case state.kind == unstable.String && filepath.IsAbs(state.text):
		return state.text
	}
	return ""
}

// applied are the objects of a state directory; none where this user may not look.
func applied(state string) ([]Source, error) {
	set, err := objects.Read(state)
	if errors.Is(err, fault.Permission) && os.Geteuid() != 0 {
		return nil, nil // the node itself, which is another user, may
	}
	if err != nil {
		return nil, err
	}
	all := make([]Source, len(set.Objects))
	for i := range set.Objects {
		all[i] = SourceOf(&set.Objects[i])
	}
	return all, nil
}
