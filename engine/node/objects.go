package node

import (
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/objects"
	"github.com/pannier/pannier/spec/fault"
)

// runtimeObjects are what operators apply while the node runs. What changes them holds
// Node.reload: they and the file are one configuration.
type runtimeObjects struct{ *Node }

var _ admin.Objects = runtimeObjects{}

// Kinds implements admin.Objects.
func (runtimeObjects) Kinds() []string { return config.Kinds }

// List implements admin.Objects.
func (n runtimeObjects) List() (all []admin.Object, revision uint64, err error) {
	n.reload.Lock()
	defer n.reload.Unlock()
	set, err := objects.Read(n.fixed.State)
	if err != nil {
		return nil, 0, err
	}
	for _, o := range append(n.present.Load().cfg.Objects(), set.Objects...) {
		all = append(all, admin.Object{Kind: o.Kind, Name: o.Name, Text: o.Text, Revision: o.Revision, Changed: o.Changed, By: o.By})
	}
	slices.SortStableFunc(all, func(a, b admin.Object) int { return strings.Compare(a.Kind+" "+a.Name, b.Kind+" "+b.Name) })
	return all, set.Revision, nil
}

// Apply implements admin.Objects.
func (n runtimeObjects) Apply(texts []admin.Text, by string, only admin.Object, revision uint64, dry bool) (changes []admin.ObjectChange, now uint64, notes []string, err error) {
	const op = "apply"
	n.reload.Lock()
	defer n.reload.Unlock()
	set, err := objects.Read(n.fixed.State)
	if err != nil {
		return nil, 0, nil, err
	}
	var read []config.Source
	for _, text := range texts {
		read = append(read, config.Source{Name: text.Name, Text: []byte(text.Text)})
	}
	// The texts are read as they are, so that their problems have their lines.
	wanted, cfg, err := n.present.Load().cfg.Apply(set, read...)
	if err != nil {
		return nil, 0, nil, err
	}
	if only.Kind != "" && (len(wanted) != 1 || wanted[0].Kind != only.Kind || wanted[0].Name != only.Name) {
		return nil, 0, nil, fault.New(op, fault.Invalid, "the text has to have one section, [[%s]] with name = %q, and nothing else", only.Kind, only.Name)
	}
	if err := n.expect(set, only.Kind, only.Name, revision); err != nil {
		return nil, 0, nil, err
	}
	next, changed := set, false
	for _, o := range wanted {
		c := admin.ObjectChange{Kind: o.Kind, Name: o.Name, Change: "new", After: o.Text}
		if old := set.Find(o.Kind, o.Name); old != nil {
			if c.Before, c.Change = old.Text, "changed"; old.Text == o.Text {
				c.Change = "same"
			}
		}
		changes = append(changes, c)
		if c.Change != "same" {
			changed = true
			next.Revision = set.Revision + 1
			o.Revision, o.Changed, o.By = next.Revision, time.Now().UTC(), by
			next = next.With(o)
		}
	}
	if _, err := n.prepare(cfg); err != nil {
		return nil, 0, nil, fault.Wrap(op, "", err)
	}
	if dry || !changed {
		return changes, set.Revision, nil, nil
	}
	notes, err = n.become(cfg, set, next)
	return changes, next.Revision, notes, err
}

// Public implements admin.Objects.
func (n runtimeObjects) Public(text string) string { return config.WithoutAddresses(text) }

// Delete implements admin.Objects.
func (n runtimeObjects) Delete(kind, name string, revision uint64) (notes []string, err error) {
	const op = "delete object"
	n.reload.Lock()
	defer n.reload.Unlock()
	set, err := objects.Read(n.fixed.State)
	if err != nil {
		return nil, err
	}
	switch {
	case set.Find(kind, name) != nil:
	case n.inFile(kind, name):
		return nil, inFile(op, kind, name)
	default:
		return nil, fault.New(op, fault.NotFound, "no %s %q was applied", kind, name)
	}
	if err := n.expect(set, kind, name, revision); err != nil {
		return nil, err
	}
	next := set.Without(kind, name)
	next.Revision = set.Revision + 1
	cfg, err := n.present.Load().cfg.With(sources(next)...)
	if err != nil {
		return nil, err
	}
	return n.become(cfg, set, next)
}

// become writes a set down and goes on with it; with an error nothing has changed.
// Node.reload is held.
func (n runtimeObjects) become(cfg *config.Config, old, next objects.Set) (notes []string, err error) {
	if err := next.Write(n.fixed.State); err != nil {
		_ = old.Write(n.fixed.State) // the new one may be there
		return nil, err
	}
	if notes, err = n.change(cfg); err != nil {
		if back := old.Write(n.fixed.State); back != nil {
			n.log.Error("objects that do not hold are written down: remove them before the next start", "error", back)
		}
	}
	return notes, err
}

// expect is Stale if a revision is asked for, and another is there: of the object, or of
// all without a kind.
func (n runtimeObjects) expect(set objects.Set, kind, name string, revision uint64) error {
	const op = "compare revisions"
	if revision == admin.AnyRevision {
		return nil
	}
	if kind == "" {
		if set.Revision != revision {
			return fault.New(op, fault.Stale, "the objects are at revision %d, not %d: somebody has changed them; read them again", set.Revision, revision)
		}
		return nil
	}
	switch o := set.Find(kind, name); {
	case revision == admin.NoRevision && o == nil:
		return nil
	case revision == admin.NoRevision:
		return fault.New(op, fault.Stale, "there is a %s %q already, at revision %d: choose another name, or send If-Match with its ETag to change it", kind, name, o.Revision)
	case o == nil:
		return fault.New(op, fault.Stale, "there is no %s %q any more", kind, name)
	case o.Revision != revision:
		who := o.By
		if who == "" {
			who = "somebody"
		}
		return fault.New(op, fault.Stale, "%s %s is at revision %d, not %d: %s has changed it at %s; read it again", kind, name, o.Revision, revision, who, o.Changed.Format(time.RFC3339))
	}
	return nil
}

// inFile reports whether the node's file has an object.
func (n runtimeObjects) inFile(kind, name string) bool {
	return slices.ContainsFunc(n.present.Load().cfg.Objects(), func(o objects.Object) bool { return o.Kind == kind && o.Name == name })
}

func inFile(op, kind, name string) error {
	return fault.New(op, fault.Refused, "%s %s is in the node's file: change it there, then pannier reload", kind, name)
}

func sources(s objects.Set) (all []config.Source) {
	for i := range s.Objects {
		all = append(all, config.SourceOf(&s.Objects[i]))
	}
	return all
}
