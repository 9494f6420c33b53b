package rest

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// strict refuses requests with a parameter in the URL that its call does not have, which the
// gateway would pass over: who misspells a filter is not to get the answer of another question.
type strict struct {
	http.Handler
	calls *http.ServeMux // of *parameters
}

func (s strict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery != "" {
		h, _ := s.calls.Handler(r)
		if p, ok := h.(*parameters); ok {
			if err := p.check(r); err != nil {
				httpd.WriteError(w, err)
				return
			}
		}
	}
	s.Handler.ServeHTTP(w, r)
}

// callsOf finds the parameters of a service's calls by the paths that its .proto file gives them.
func callsOf(service protoreflect.ServiceDescriptor) *http.ServeMux {
	calls := http.NewServeMux()
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		if rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule); ok && rule != nil {
			pattern, fields := patternOf(rule)
			calls.Handle(pattern, &parameters{in: m.Input(), inPath: fields, inBody: rule.GetBody() != ""})
		}
	}
	return calls
}

var variable = regexp.MustCompile(`\{[^}]*\}`)

// patternOf is a path as net/http has it, which wants variables to have simple names, and the fields
// that are in it.
func patternOf(rule *annotations.HttpRule) (pattern string, fields []string) {
	for method, path := range map[string]string{
		http.MethodGet: rule.GetGet(), http.MethodPost: rule.GetPost(), http.MethodPut: rule.GetPut(), http.MethodDelete: rule.GetDelete(),
	} {
		if path == "" {
			continue
		}
		return method + " " + variable.ReplaceAllStringFunc(path, func(v string) string {
			fields = append(fields, strings.Trim(v, "{}"))
			return "{v" + strconv.Itoa(len(fields)) + "}"
		}), fields
	}
	panic("rest: a path by a method that is not known here: " + rule.String())
}

// parameters are what a call takes beside its path.
type parameters struct {
	in     protoreflect.MessageDescriptor
	inPath []string // fields that are not among them
	inBody bool     // all of them
}

// ServeHTTP makes it something that a ServeMux finds; it is never called.
func (*parameters) ServeHTTP(http.ResponseWriter, *http.Request) {}

func (p *parameters) check(r *http.Request) error {
	const op = "read query"
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fault.New(op, fault.Invalid, "%v", err)
	}
	for name, given := range values {
		if p.inBody {
			return fault.New(op, fault.Invalid, "no parameter %q is read from the URL here: put it into the JSON of the body", name)
		}
		if f := p.field(name); f != nil {
			for _, value := range given {
				if allowed := unread(f, value); allowed != "" {
					return fault.New(op, fault.Invalid, "%s is %.100q: write %s", name, value, allowed)
				}
			}
			continue
		}
		there := "it has none"
		if names := p.names(p.in, ""); len(names) > 0 {
			there = "there are: " + strings.Join(names, ", ")
		}
		return fault.New(op, fault.Invalid, "no parameter is called %q here; %s", name, there)
	}
	return nil
}

// unread is what may be written for a field in the place of a value that is none of its kind; "": it
// is one. What the gateway says of it is about Go.
func unread(f protoreflect.FieldDescriptor, value string) string {
	var err error
	switch f.Kind() {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		_, err = strconv.ParseInt(value, 10, 32)
		return orNone(err, "a whole number, as 100")
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		_, err = strconv.ParseInt(value, 10, 64)
		return orNone(err, "a whole number, as 100")
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		_, err = strconv.ParseUint(value, 10, 32)
		return orNone(err, "a whole number that is not negative, as 100")
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		_, err = strconv.ParseUint(value, 10, 64)
		return orNone(err, "a whole number that is not negative, as 100")
	case protoreflect.BoolKind:
		_, err = strconv.ParseBool(value)
		return orNone(err, "true or false")
	case protoreflect.EnumKind:
		return notOf(f.Enum().Values(), value)
	case protoreflect.MessageKind:
		if f.Message().FullName() == "google.protobuf.Timestamp" {
			_, err = time.Parse(time.RFC3339Nano, strings.Trim(value, `"`))
			return orNone(err, "a time, as 2026-01-31T20:00:00Z")
		}
	}
	return ""
}

func orNone(err error, allowed string) string {
	if err == nil {
		return ""
	}
	return allowed
}

// notOf is the names of an enumeration, but for its zero, if the value is neither one nor a number.
func notOf(values protoreflect.EnumValueDescriptors, value string) string {
	if _, err := strconv.ParseInt(value, 10, 32); err == nil || values.ByName(protoreflect.Name(value)) != nil {
		return ""
	}
	var names []string
	for i := range values.Len() {
		if v := values.Get(i); v.Number() != 0 {
			names = append(names, string(v.Name()))
		}
	}
	return strings.Join(names, ", ")
}

// field is the one that has that name, of JSON or of the .proto file; nil without one.
func (p *parameters) field(name string) (f protoreflect.FieldDescriptor) {
	m := p.in
	for part := range strings.SplitSeq(name, ".") {
		if m == nil {
			return nil
		}
		f = m.Fields().ByJSONName(part)
		if f == nil {
			f = m.Fields().ByTextName(part)
		}
		if f == nil {
			return nil
		}
		m = f.Message()
	}
	if slices.Contains(p.inPath, name) {
		return nil
	}
	return f
}

// names are all of them, in the order of the .proto file.
func (p *parameters) names(m protoreflect.MessageDescriptor, prefix string) (names []string) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		name := prefix + f.JSONName()
		switch in := f.Message(); {
		case slices.Contains(p.inPath, name):
		case in != nil && in.ParentFile() == adminpb.File_admin_proto && !f.IsList() && !f.IsMap():
			names = append(names, p.names(in, name+".")...)
		default:
			names = append(names, name)
		}
	}
	return names
}
