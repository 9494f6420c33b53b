package node

import (
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/access"
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

// List implements admin.Objects. It has what holds, and waits for no reload.
func (n runtimeObjects) List() (all []admin.Object, revision uint64, err error) {
	set := n.applied.Load()
	for _, o := range append(n.present.Load().cfg.Objects(), set.Objects...) {
		all = append(all, shownObject(&o))
	}
	slices.SortStableFunc(all, func(a, b admin.Object) int { return strings.Compare(a.Kind+" "+a.Name, b.Kind+" "+b.Name) })
	return all, set.Revision, nil
}

func shownObject(o *objects.Object) admin.Object {
	return admin.Object{Kind: o.Kind, Name: o.Name, Text: o.Text, Revision: o.Revision, Changed: o.Changed, By: o.By}
}

// Apply implements admin.Objects.
func (n runtimeObjects) Apply(texts []admin.Text, by string, only admin.Object, revision uint64, dry bool) (is admin.Applied, err error) {
	const op = "apply"
	n.reload.Lock()
	defer n.reload.Unlock()
	set, err := objects.Read(n.fixed.State)
	if err != nil {
		return is, err
	}
	var read []config.Source
	for _, text := range texts {
		read = append(read, config.Source{Name: text.Name, Text: []byte(text.Text)})
	}
	// The texts are read as they are, so that their problems have their lines.
	wanted, cfg, err := n.present.Load().cfg.Apply(set, read...)
	if err != nil {
		return is, err
	}
	if only.Kind != "" && (len(wanted) != 1 || wanted[0].Kind != only.Kind || wanted[0].Name != only.Name) {
		return is, fault.New(op, fault.Invalid, "the text has to have one section, [[%s]] with name = %q, and nothing else", only.Kind, only.Name)
	}
	if err := n.expect(set, only.Kind, only.Name, revision); err != nil {
		return is, err
	}
	next := set
	var kinds []string // of what is new or has changed
	for _, o := range wanted {
		c := admin.ObjectChange{Kind: o.Kind, Name: o.Name, Change: "new", After: o.Text}
		old := set.Find(o.Kind, o.Name)
		if old != nil {
			if c.Before, c.Change = old.Text, "changed"; old.Text == o.Text {
				c.Change = "same"
			}
		}
		is.Changes = append(is.Changes, c)
		if c.Change == "same" {
			is.Objects = append(is.Objects, shownObject(old))
			continue
		}
		kinds = append(kinds, o.Kind)
		next.Revision = set.Revision + 1
		o.Revision, o.Changed, o.By = next.Revision, time.Now().UTC(), by
		next = next.With(o)
		is.Objects = append(is.Objects, shownObject(&o))
	}
	if is.Revision = next.Revision; dry {
		is.Revision = set.Revision
	}
	if dry || len(kinds) == 0 {
		return is, fault.Wrap(op, "", n.would(cfg))
	}
	is.Notes, err = n.become(cfg, set, next, kinds...)
	return is, err
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
	return n.become(cfg, set, next, kind)
}

// become writes a set down and goes on with it; with an error nothing has changed. kinds are those
// of what is different: tokens ask nothing of this host, so that nothing of it keeps one from ending.
// Node.reload is held.
func (n runtimeObjects) become(cfg *config.Config, old, next objects.Set, kinds ...string) (notes []string, err error) {
	if err := next.Write(n.fixed.State); err != nil {
		_ = old.Write(n.fixed.State) // the new one may be there
		return nil, err
	}
	if !slices.ContainsFunc(kinds, func(kind string) bool { return kind != access.Kind }) {
		was := n.present.Load()
		n.present.Store(&present{cfg: cfg, book: was.book, users: was.users})
		n.tokens.Set(cfg.Tokens)
		n.applied.Store(&next)
		return changesByName(access.Kind, was.cfg.Tokens, cfg.Tokens), nil
	}
	is, err := n.change(cfg)
	if err != nil {
		if back := old.Write(n.fixed.State); back != nil {
			n.log.Error("objects that do not hold are written down: remove them before the next start", "error", back)
		}
	}
	return slices.Concat(is.Notes, is.Problems), err
}

// would is why a configuration would not be taken over. Node.reload is held.
func (n runtimeObjects) would(cfg *config.Config) error {
	if _, err := n.prepare(cfg); err != nil {
		return err
	}
	t, err := n.try(cfg, nil)
	if err == nil {
		t.drop()
	}
	return err
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
