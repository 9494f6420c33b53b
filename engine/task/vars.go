package task

import (
	"errors"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Vars are the values of the variables of one run of a task.
type Vars map[string]string

// variables are all there are, and what they say. spec/tasks.md has the same
// table; a test compares them.
var variables = map[string]string{
	"path":       "name of the file below the rule's root",
	"name":       "last element of path",
	"dir":        "path without its last element; empty at the root, where a slash behind it goes too",
	"stem":       "name without its extension",
	"ext":        "extension with its dot; empty without one",
	"size":       "bytes of the whole; empty while nobody knows it, as in the receiver's pre tasks",
	"id":         "id of the request",
	"follow":     "id of the first request of the chain",
	"requester":  "name of the node where the request was registered",
	"partner":    "name of the other node",
	"node":       "name of this node",
	"rule":       "name of the rule",
	"role":       "requester or requested",
	"side":       "sender or receiver",
	"attempt":    "number of the attempt, from 1",
	"info":       "information of the request",
	"date":       "day when the request was registered, 2026-01-31, UTC",
	"time":       "time when the request was registered, 150405, UTC",
	"task":       "key of this task: the same each time it runs for this request",
	"error.code": "in an error task the kind of the failure, as \"no space\"; elsewhere empty, also after an attempt that has failed",
	"error.text": "likewise its cause",
}

// VarsOf are the values for a record's next task. size is -1 when unknown.
func VarsOf(r *lifecycle.Record, node string, file relpath.Path, size int64) Vars {
	key, _ := r.NextTask()
	name := file.String()
	v := Vars{
		"path": name, "name": path.Base(name), "dir": path.Dir(name), "ext": path.Ext(name),
		"id": r.Key.ID.String(), "follow": r.Spec.Follow.String(), "requester": r.Key.Requester, "partner": r.Spec.Partner,
		"node": node, "rule": r.Spec.Rule, "role": r.Role.String(), "side": r.Side.String(), "attempt": strconv.FormatUint(uint64(r.Attempt), 10),
		"info": r.Spec.Info, "date": r.Registered.UTC().Format(time.DateOnly), "time": r.Registered.UTC().Format("150405"), "task": key.String(),
	}
	if name == "" {
		v["name"] = ""
	}
	if v["dir"] == "." {
		v["dir"] = ""
	}
	v["stem"] = strings.TrimSuffix(v["name"], v["ext"])
	if v["size"] = ""; size >= 0 {
		v["size"] = strconv.FormatInt(size, 10)
	}
	v["error.code"], v["error.text"] = "", ""
	if r.Failing {
		v["error.code"], v["error.text"] = r.Failure.Kind.String(), r.Failure.Cause
	}
	return v
}

// Template is a text with variables in braces. "{{" and "}}" are braces.
type Template struct{ parts []part }

// part is a literal, or the name of a variable.
type part struct {
	text     string
	variable bool
}

// ParseTemplate reads a text. Unknown variables and single braces are errors,
// so that a typing error shows when the configuration is read.
func ParseTemplate(s string) (Template, error) {
	const op = "read variables"
	var t Template
	text := ""
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			text += s
			break
		}
		text += s[:i]
		if strings.HasPrefix(s[i:], "{{") || strings.HasPrefix(s[i:], "}}") {
			text, s = text+s[i:i+1], s[i+2:]
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if s[i] == '}' || end < 0 {
			return t, fault.New(op, fault.Invalid, "a brace without its other half in %q: write {{ or }} for a brace", s)
		}
		name := s[i+1 : i+end]
		if _, ok := variables[name]; !ok {
			return t, fault.New(op, fault.Invalid, "no variable {%s}; for a brace itself write {{ or }}", name)
		}
		t.parts = append(t.parts, part{text: text}, part{text: name, variable: true})
		text, s = "", s[i+end+1:]
	}
	t.parts = append(t.parts, part{text: text})
	return t, nil
}

// Fill puts the values in, from left to right, once: what a value contains is
// never looked at. The slash behind a {dir} that is empty goes with it: {dir}/x is beside the
// file wherever that is, and never at the root of the host.
func (t Template) Fill(v Vars) string {
	var b strings.Builder
	atRoot := false
	for _, p := range t.parts {
		if p.variable {
			b.WriteString(v[p.text])
		} else if atRoot {
			b.WriteString(strings.TrimPrefix(p.text, "/"))
		} else {
			b.WriteString(p.text)
		}
		atRoot = p.variable && p.text == "dir" && v["dir"] == ""
	}
	return b.String()
}

// ParseName is ParseTemplate of a name below a rule's root. What no file could make a name of is
// refused.
func ParseName(s string) (Template, error) {
	t, err := ParseTemplate(s)
	if err != nil {
		return t, err
	}
	some := Vars{}
	for name := range variables {
		some[name] = "x"
	}
	if _, err := t.Path(some); err != nil {
		if e, ok := errors.AsType[*fault.Error](err); ok && e.Err != nil {
			err = e.Err
		}
		return t, fault.New("read variables", fault.Invalid, "%q is no name below the rule's root: %v", s, err)
	}
	return t, nil
}

// IsFile reports whether a text means the request's file itself.
func IsFile(s string) bool { return s == "{path}" || s == "{dir}/{name}" }

// ParseOther is ParseName of a name that is not the file's own.
func ParseOther(s string) (Template, error) {
	if IsFile(s) {
		return Template{}, invalid("to is the file itself: write another name, as \"{path}.new\"")
	}
	return ParseName(s)
}

// Path is Fill as a name below a root, and of none of transfers' own files.
func (t Template) Path(v Vars) (relpath.Path, error) {
	p, err := relpath.Parse(t.Fill(v))
	if err != nil {
		return p, err
	}
	return p, sideeffect.RefuseOwn("make name", p)
}
