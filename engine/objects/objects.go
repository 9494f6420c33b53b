// Package objects keeps what operators have applied to a node while it runs, partners
// and rules, as they have written it, in one file of the state directory.
package objects

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/statefile"
	"github.com/pannier/pannier/spec/fault"
)

// File is its name in a state directory.
const File = "objects.json"

// format is the file's, and raised when an older version could not read it.
const format = 1

// Object is one of them.
type Object struct {
	Kind     string    `json:"kind"` // as "partner"
	Name     string    `json:"name"`
	Text     string    `json:"text"` // TOML, its section as in a node's file
	Revision uint64    `json:"revision"`
	Changed  time.Time `json:"changed"`
	By       string    `json:"by,omitempty"`
}

// Set is all of them, by kind and name. The zero value is none.
type Set struct {
	Format   int      `json:"format"`
	Revision uint64   `json:"revision"` // the last that was given
	Objects  []Object `json:"objects"`
}

// Read is the set in a state directory; none without a file. Corrupt: the file is none of
// this package; Unsupported: it is of a later version.
func Read(state string) (Set, error) {
	const op = "read objects"
	path := filepath.Join(state, File)
	data, err := statefile.Read(path)
	if err != nil || data == nil {
		return Set{}, err
	}
	var s Set
	if err := json.Unmarshal(data, &s); err != nil {
		return Set{}, fault.New(op, fault.Corrupt, "%s: %v; put back a copy, or remove it and apply the objects again", path, err)
	}
	if s.Format != format {
		return Set{}, fault.New(op, fault.Unsupported, "%s has format %d, this version knows %d: run the version that has written it", path, s.Format, format)
	}
	return s, nil
}

// Write replaces the set of a state directory, durably.
func (s Set) Write(state string) error {
	s.Format = format
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fault.Wrap("write objects", state, err)
	}
	return statefile.Write(filepath.Join(state, File), append(data, '\n'))
}

// Find is the object of a kind and name; nil without one.
func (s Set) Find(kind, name string) *Object {
	for i := range s.Objects {
		if s.Objects[i].Kind == kind && s.Objects[i].Name == name {
			return &s.Objects[i]
		}
	}
	return nil
}

// With is the set with an object in the place of the one of its kind and name.
func (s Set) With(o Object) Set {
	s = s.Without(o.Kind, o.Name)
	s.Objects = append(s.Objects, o)
	slices.SortFunc(s.Objects, func(a, b Object) int {
		if c := strings.Compare(a.Kind, b.Kind); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return s
}

// Without is the set without an object.
func (s Set) Without(kind, name string) Set {
	s.Objects = slices.DeleteFunc(slices.Clone(s.Objects), func(o Object) bool { return o.Kind == kind && o.Name == name })
	return s
}
