package config

import (
	"maps"
	"slices"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/spec/relpath"
)

// What the sections about watch folders mean.

func (m *meaning) folders(list *value) map[string]folder.Folder {
	all, taken := map[string]folder.Folder{}, map[string]*folder.Folder{}
	for i := range m.file.Folder {
		t, v := &m.file.Folder[i], list.item(i)
		f := &folder.Folder{Name: t.Name, Rule: t.Rule, Partners: t.Partner, Recursive: t.Recursive, Include: t.Include, Exclude: t.Exclude,
			Stable: time.Duration(t.Stable), Closed: t.Closed, MinAge: time.Duration(t.MinAge), DoneFile: t.DoneFile,
			After: folder.Action(t.After), Failed: folder.Action(t.Failed), Interval: time.Duration(t.Interval), Open: t.Open}
		register(m, taken, f, t.Name, "folder", v)
		m.folder(f, t, v)
		before := len(m.problems.list)
		if err := f.Check(); err != nil && before == 0 {
			m.add(v.key, "", "%s", words(err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(taken)) {
		all[name] = *taken[name]
	}
	return all
}

func (m *meaning) folder(f *folder.Folder, t *folderTable, v *value) {
	if m.text(v, "rule", "the one to send files by") {
		if r := m.folderRule(t.Rule, v.field("rule")); r != nil {
			f.Root = r.Root
			m.rulePartners(r, t.Partner, v)
		}
	}
	if !v.has("partner") {
		m.add(v.key, "", "partner is missing: who gets the files, as \"hostb\" or [\"hostb\", \"hostc\"]")
	}
	f.Dir, f.To, f.FailedTo = m.inRoot(t.Dir, v, "dir"), m.inRoot(t.To, v, "to"), m.inRoot(t.FailedTo, v, "failed_to")
	for key, is := range map[string]folder.Action{"to": f.After, "failed_to": f.Failed} {
		of := map[string]string{"to": "after", "failed_to": "failed"}[key]
		switch {
		case is == folder.Move && !v.has(key):
			m.add(v.field(of).place, "", "%s = \"move\" needs %s, a directory below the rule's root", of, key)
		case is != folder.Move && v.has(key) && !m.noted(v.field(of)):
			m.add(v.field(key).key, "", "%s is for %s = \"move\"", key, of)
		}
	}
	for _, key := range []string{"include", "exclude"} {
		for i, p := range map[string][]string{"include": t.Include, "exclude": t.Exclude}[key] {
			if err := folder.CheckPattern(p); err != nil && !m.noted(v.field(key).item(i)) {
				m.add(v.field(key).item(i).place, "", "%s", words(err))
			}
		}
	}
	if err := folder.CheckDoneFile(t.DoneFile); err != nil {
		m.add(v.field("done_file").place, "", "%s", words(err))
	}
	atLeast(m, v, "stable", int64(t.Stable), int64(folder.MinStable), folder.MinStable.String())
	atLeast(m, v, "interval", int64(t.Interval), int64(folder.MinInterval), folder.MinInterval.String())
	atLeast(m, v, "open", t.Open, 1, "1")
}

// folderRule is a rule that a folder may have.
func (m *meaning) folderRule(name string, at *value) *engine.Rule {
	switch r := m.anyRule(name, at); {
	case r == nil:
	case r.Direction == engine.Receive:
		m.add(at.place, "", "a folder sends, and the direction of rule %q is receive", name)
	case r.Bridge != "":
		m.add(at.place, "", "the root of rule %q is at a bridge: a folder is a directory of this host", name)
	default:
		return r
	}
	return nil
}

// rulePartners notes partners that cannot be asked by the rule.
func (m *meaning) rulePartners(r *engine.Rule, partners []string, v *value) {
	seen := map[string]bool{}
	for i, name := range partners {
		at := v.field("partner")
		if len(at.items) > 0 {
			at = at.item(i)
		}
		switch p := m.partners[name]; {
		case m.noted(at) || !m.knownPartner(name, at):
		case !r.Allows(name):
			m.add(at.place, "partners of the rule: "+listed(r.Partners), "rule %q is not for partner %q", r.Name, name)
		case p != nil && p.Address == "" && name != m.file.Node.Name:
			m.add(at.place, "", "partner %q has no address: it only calls, and this node can ask nothing of it", name)
		case seen[name]:
			m.add(at.place, "", "%q is there twice", name)
		}
		seen[name] = true
	}
	if v.has("partner") && len(partners) == 0 && !m.noted(v.field("partner")) {
		m.add(v.field("partner").place, "", "at least one partner")
	}
}

// inRoot reads a directory below a rule's root.
func (m *meaning) inRoot(text string, v *value, name string) relpath.Path {
	if !v.isText(name) {
		return relpath.Path{}
	}
	p, err := relpath.Parse(text)
	if err != nil {
		m.add(v.field(name).place, "a directory below the rule's root, as \"outbox\"", "%s", words(err))
	}
	return p
}
