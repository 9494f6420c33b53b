package config

import (
	"encoding"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/quantity"
)

var (
	textType  = reflect.TypeFor[encoding.TextUnmarshaler]()
	oneOfType = reflect.TypeFor[oneOf]()
	bytesType = reflect.TypeFor[task.Size]()
	ratesType = reflect.TypeFor[rates]()
	taskType  = reflect.TypeFor[task.Table]()
)

// shapes are how values of a type are written, for people.
var shapes = map[reflect.Type]string{
	reflect.TypeFor[rate]():            `rate, as "200MB/s"`,
	reflect.TypeFor[size]():            `size, as "10GB"`,
	bytesType:                          `whole number or size, as "10GB"`,
	reflect.TypeFor[task.Duration]():   `duration, as "30s"`,
	reflect.TypeFor[period]():          `duration, as "30s"`,
	reflect.TypeFor[place]():           "here or there",
	reflect.TypeFor[mode]():            `mode, as "0660"`,
	reflect.TypeFor[quantity.Window](): `window, as "Mon-Fri 20:00-06:00"`,
	reflect.TypeFor[level]():           "debug, info, warn or error",
	reflect.TypeFor[logFormat]():       "text or json",
	reflect.TypeFor[direction]():       "send or receive",
	reflect.TypeFor[exists]():          "replace or refuse",
	reflect.TypeFor[when]():            "second or each",
	reflect.TypeFor[digest]():          "none, sha256, sha512 or blake3",
	reflect.TypeFor[compress]():        "off, auto, zstd or s2",
	reflect.TypeFor[after]():           "keep, delete or move",
	reflect.TypeFor[failed]():          "keep or move",
	reflect.TypeFor[missed]():          "skip, once or all",
	reflect.TypeFor[overlap]():         "allow or skip",
	reflect.TypeFor[expiry]():          `time or never, as "2030-12-31T00:00:00Z"`,
	oneOfType:                          "text or list of text",
	ratesType:                          `rate or list of rates, as "200MB/s" or ["Mon-Fri 08:00-18:00 20MB/s", "200MB/s"]`,
	reflect.TypeFor[quantity.Slot]():   `rate, as "Mon-Fri 08:00-18:00 20MB/s"`,
}

const listOfTables = "list of tables"

// shapeOf says how a value of that type is written.
func shapeOf(t reflect.Type) string {
	if s := shapes[t]; s != "" {
		return s
	}
	switch t.Kind() {
	case reflect.Pointer:
		return shapeOf(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct && shapes[t.Elem()] == "" {
			return listOfTables
		}
		return "list of " + shapeOf(t.Elem())
	case reflect.Struct:
		return "table"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "number"
	}
	return "whole number"
}

// fill puts a value of the document into a value of the shape, and notes
// whatever does not fit.
func (p *problems) fill(to reflect.Value, v *value) {
	t := to.Type()
	switch {
	case t == oneOfType && v.kind == unstable.String:
		to.Set(reflect.ValueOf(oneOf{v.text}))
	case t == ratesType && v.kind == unstable.String:
		to.Set(reflect.MakeSlice(t, 1, 1))
		p.fill(to.Index(0), v)
	case t == bytesType && v.kind == unstable.Integer:
		if !scalar(to, v) {
			p.misfit(t, v)
		}
	case to.CanAddr() && reflect.PointerTo(t).Implements(textType):
		if v.kind != unstable.String {
			p.misfit(t, v)
		} else if err := to.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(v.text)); err != nil {
			p.add(v.place, "", "%s", words(err))
		}
	case t.Kind() == reflect.Struct && v.kind == unstable.Table:
		p.fillTable(to, v)
	case t.Kind() == reflect.Slice && v.kind == unstable.Array:
		to.Set(reflect.MakeSlice(t, len(v.items), len(v.items)))
		for i, item := range v.items {
			p.fill(to.Index(i), item)
		}
	case t.Kind() == reflect.Pointer:
		to.Set(reflect.New(t.Elem()))
		p.fill(to.Elem(), v)
	case !scalar(to, v):
		p.misfit(t, v)
	}
}

// scalar puts a text, number or truth value in, if it is one and in range.
func scalar(to reflect.Value, v *value) bool {
	switch kind := to.Kind(); {
	case kind == reflect.String && v.kind == unstable.String:
		to.SetString(v.text)
		return true
	case kind == reflect.Bool && v.kind == unstable.Bool:
		to.SetBool(v.text == "true")
		return true
	case to.CanInt() && v.kind == unstable.Integer:
		n, err := strconv.ParseInt(v.text, 0, 64)
		if err != nil || to.OverflowInt(n) {
			return false
		}
		to.SetInt(n)
		return true
	case to.CanFloat() && (v.kind == unstable.Float || v.kind == unstable.Integer):
		f, err := strconv.ParseFloat(strings.ReplaceAll(v.text, "_", ""), 64)
		to.SetFloat(f)
		return err == nil
	}
	return false
}

// misfit notes a value of another type.
func (p *problems) misfit(t reflect.Type, v *value) {
	if v.kind == unstable.Integer && t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64 && !reflect.PointerTo(t).Implements(textType) {
		high := int64(1)<<(t.Bits()-1) - 1
		p.add(v.place, "", "the number is out of range: %d to %d", -high-1, high)
		return
	}
	article := "a "
	shape := shapeOf(t)
	switch {
	case t.Kind() == reflect.Bool:
		article = ""
	case shapes[t] != "" && !strings.Contains(shape, ", as "):
		article = "one of "
	}
	is := map[unstable.Kind]string{
		unstable.String: "a text", unstable.Integer: "a whole number", unstable.Float: "a number", unstable.Bool: "true or false",
		unstable.Table: "a table", unstable.Array: "a list",
	}[v.kind]
	if is == "" {
		is = "a date or time"
	}
	hint := ""
	switch {
	case shape == listOfTables && v.kind == unstable.Table && v.place == v.key:
		hint = "a header of such a table stands in two brackets: [[ ]]"
	case shape == listOfTables:
		hint = "as [ { ... }, { ... } ]"
	case t.Kind() == reflect.Slice && v.kind == unstable.String:
		hint = "as " + listOf(t, v.text)
	}
	p.add(v.place, hint, "this is %s; write %s%s", is, article, shape)
}

// listOf is a text as it is written where a list is wanted: one of texts has a text for each word.
func listOf(t reflect.Type, text string) string {
	items := []string{text}
	if t.Elem().Kind() == reflect.String {
		items = strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
	}
	for i := range items {
		items[i] = strconv.Quote(items[i])
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// fillTable fills the fields of a struct, and those that are not there with
// their defaults.
func (p *problems) fillTable(to reflect.Value, v *value) {
	t := to.Type()
	names := keysOf(t)
	for _, name := range v.names {
		if !slices.Contains(names, name) {
			may := names
			if t == taskType {
				may = keysOfTask(v, names)
			}
			p.add(v.fields[name].key, "keys here: "+strings.Join(may, ", "), "unknown key %q%s", name, meant(name, may))
		}
	}
	for i, name := range names {
		f := v.fields[name]
		if f == nil {
			if f = byDefault(t.Field(i)); f == nil {
				continue
			}
		}
		p.fill(to.Field(i), f)
	}
}

// byDefault is the value of a key that is not there; nil if that is the zero
// value.
func byDefault(f reflect.StructField) *value {
	text, ok := f.Tag.Lookup("default")
	switch {
	case f.Type.Kind() == reflect.Struct && shapes[f.Type] == "":
		return newTable(span{}, span{})
	case !ok:
		return nil
	case reflect.PointerTo(f.Type).Implements(textType) || f.Type.Kind() == reflect.String:
		return &value{kind: unstable.String, text: text}
	}
	return &value{kind: unstable.Integer, text: text}
}

// keysOf are the keys of a table of that type.
func keysOf(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Tag.Get("toml")
	}
	return names
}
