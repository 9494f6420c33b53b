package sideeffect

import (
	"github.com/pannier/pannier/spec/fault"
)

// Names of the two kinds that exist.
const (
	KindFile = "file" // bulk transfer one way; also what "" means
	KindPipe = "pipe" // live bytes both ways while the call runs
)

// A Kind is one sort of side effect, like an entry of the SE table of the
// original. The kind says what a descriptor must look like and what stream it
// runs over; running it is the rpc package's.
type Kind interface {
	Name() string
	Bytes() bool // true: a byte stream both ways; false: blocks one way
	Check(d *Descriptor) error
}

// Kinds maps names to kinds. It is a value: copies share nothing that changes.
// The zero Kinds is empty; StandardKinds has "file" and "pipe".
type Kinds struct{ byName map[string]Kind }

// NewKinds is the table of ks. An empty name, one over MaxKindName bytes or one given
// twice is fault.Invalid.
func NewKinds(ks ...Kind) (Kinds, error) {
	t := Kinds{byName: make(map[string]Kind, len(ks))}
	for _, k := range ks {
		n := k.Name()
		if n == "" || len(n) > MaxKindName {
			return Kinds{}, fault.New("list kinds", fault.Invalid, "a kind's name has %d bytes, 1 to %d are allowed", len(n), MaxKindName)
		}
		if t.byName[n] != nil {
			return Kinds{}, fault.New("list kinds", fault.Invalid, "two kinds are called %q", n)
		}
		t.byName[n] = k
	}
	return t, nil
}

// StandardKinds is the table of the two kinds that exist.
func StandardKinds() Kinds {
	return Kinds{byName: map[string]Kind{KindFile: fileKind{}, KindPipe: pipeKind{}}}
}

// Of finds the kind of d ("" is KindFile) and validates d, also by the rules of
// the kind. An unknown kind is fault.Unsupported.
func (t Kinds) Of(d *Descriptor) (Kind, error) {
	k, err := t.Lookup(d.Kind)
	if err != nil {
		return nil, err
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	if err := k.Check(d); err != nil {
		return nil, err
	}
	return k, nil
}

// Lookup finds a kind by name; "" is KindFile, an unknown one
// fault.Unsupported.
func (t Kinds) Lookup(name string) (Kind, error) {
	if name == "" {
		name = KindFile
	}
	if k := t.byName[name]; k != nil {
		return k, nil
	}
	return nil, fault.New("find kind", fault.Unsupported, "no kind of side effect is called %q", name[:min(len(name), MaxKindName)])
}

type fileKind struct{}

func (fileKind) Name() string            { return KindFile }
func (fileKind) Bytes() bool             { return false }
func (fileKind) Check(*Descriptor) error { return nil }

type pipeKind struct{}

func (pipeKind) Name() string { return KindPipe }
func (pipeKind) Bytes() bool  { return true }

// Check refuses what a live pipe cannot have: an offset, a digest, resuming,
// the inline road.
func (pipeKind) Check(d *Descriptor) error {
	switch {
	case d.Offset != 0:
		return invalid("a pipe has no offset: set Offset to 0")
	case d.Hash != None:
		return invalid("a pipe has no digest: set Hash to None")
	case d.Resume:
		return invalid("a pipe cannot be resumed: set Resume to false")
	case d.Road == RoadInline:
		return invalid("a pipe does not fit into a message: set Road to RoadAuto")
	}
	return nil
}
