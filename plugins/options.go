package plugins

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Values are options of an endpoint or a listener, as a driver reads them: those that are not
// given have their defaults. The first that is not as it has to be is Err's.
type Values struct {
	op    string
	known []Option
	given map[string]string
	err   error
}

// ReadOptions checks that a driver knows all options that are given. what is whose they are,
// as "ftp", for errors. With an error the values are the defaults.
func ReadOptions(what string, known []Option, given map[string]string) *Values {
	v := &Values{op: what + " option ", known: known, given: given}
	for name := range given {
		if !slices.ContainsFunc(known, func(o Option) bool { return o.Name == name }) {
			var names []string
			for _, o := range known {
				names = append(names, o.Name)
			}
			v.Fail(v.Bad(name, "there is no such option").Advise("there are %s", strings.Join(names, ", ")))
		}
	}
	return v
}

// Bad is the error of an option that is not as it has to be; the text says how that is.
func (v *Values) Bad(name, format string, args ...any) *fault.Error {
	return fault.New(v.op+name, fault.Invalid, format, args...)
}

// Fail notes an error, if it is the first.
func (v *Values) Fail(err error) {
	if v.err == nil {
		v.err = err
	}
}

// Err is the first error; nil: all were right.
func (v *Values) Err() error { return v.err }

// Text is an option as it is written.
func (v *Values) Text(name string) string {
	if text, ok := v.given[name]; ok {
		return text
	}
	for _, o := range v.known {
		if o.Name == name {
			return o.Default
		}
	}
	return ""
}

// One is an option with a few values.
func (v *Values) One(name string, of ...string) string {
	text := v.Text(name)
	if !slices.Contains(of, text) {
		v.Fail(v.Bad(name, "%s is not one of %s", fault.Shown(text), strings.Join(of, ", ")))
	}
	return text
}

// Number is a whole number from 1.
func (v *Values) Number(name string, most int) int { return v.Between(name, 1, most) }

// Between is a whole number of those.
func (v *Values) Between(name string, least, most int) int {
	n, err := strconv.Atoi(v.Text(name))
	if err != nil || n < least || n > most {
		v.Fail(v.Bad(name, "it is a number from %d to %d", least, most))
	}
	return n
}

// Duration is a time in Go's writing.
func (v *Values) Duration(name string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(v.Text(name))
	if err != nil || d < least || d > most {
		v.Fail(v.Bad(name, `it is a time as "30s", from %v to %v`, least, most))
	}
	return d
}
