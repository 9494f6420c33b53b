package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// meaning makes a Config of a file whose shape is filled, and notes what makes
// no sense. A value that did not fit its shape has been noted and is zero, so
// it is judged only if the document has one of the right type.
type meaning struct {
	*problems
	file     file
	partners map[string]*engine.Partner
	misread  bool // there are partners, in sections that are called otherwise, or in one bracket
	rules    map[string]*engine.Rule
	files    string // root of the rule whose tasks are read
	bridges  map[string]*Bridge
	pools    map[string]*engine.Pool
	keys     map[string]string // of partners: whose it is
	users    map[string]string // of this host: which partner calls as it
	own      func(state string) string
	first    map[string]int // where the name of a section is that came first, by kind and name
	tasks    task.Catalogue // what it remembers of servers holds for all lists
}

func (m *meaning) config(root *value) *Config {
	cfg := &Config{}
	if root.has("node") {
		cfg.Node = m.node(&m.file.Node, root.field("node"))
	} else {
		m.add(span{}, "write at least: [node] and below it name = \"hosta\"", "there is no [node]")
	}
	cfg.HTTP = m.http(root.field("http"), root.has("http"))
	m.partners, m.rules, m.keys = map[string]*engine.Partner{}, map[string]*engine.Rule{}, map[string]string{}
	m.users = map[string]string{}
	if key := m.own(cfg.Node.State); key != "" {
		m.keys[key] = cfg.Node.Name
	}
	m.misread = misread(root, "partner")
	m.pools = map[string]*engine.Pool{}
	for i := range m.file.Pool {
		m.pool(&m.file.Pool[i], root.field("pool").item(i))
	}
	for i := range m.file.Partner {
		m.partner(&m.file.Partner[i], root.field("partner").item(i))
	}
	cfg.Bridges = m.allBridges(root.field("bridge"))
	made := make([]engine.Rule, len(m.file.Rule))
	for i := range m.file.Rule { // all names first: tasks name rules
		t := &m.file.Rule[i]
		made[i] = engine.Rule{Name: t.Name, Direction: engine.Direction(t.Direction), Partners: t.Partners, Root: t.Root}
		register(m, m.rules, &made[i], t.Name, "rule", root.field("rule").item(i))
	}
	for i := range m.file.Rule {
		m.rule(&made[i], &m.file.Rule[i], root.field("rule").item(i))
	}
	for i := range m.file.Partner {
		m.thirdParty(&m.file.Partner[i], root.field("partner").item(i))
	}
	cfg.Users = m.users
	cfg.Relays = m.relays(root.field("relay"))
	cfg.Policy = m.policy(root.field("relay_policy"))
	cfg.Listeners = m.listeners(root.field("listener"))
	cfg.Folders = m.folders(root.field("folder"))
	cfg.Schedules = m.schedules(root.field("schedule"))
	cfg.Expects = m.expects(root.field("expect"))
	cfg.Tokens = m.tokens(root.field("token"))
	cfg.Audit, cfg.Push = m.audit(root.field("audit")), m.push(root.field("push"))
	cfg.Book = m.withBridges()
	m.leftOut(root)
	return cfg
}

// text reports whether v has a text under that name, and notes that it is
// missing if there is nothing.
func (m *meaning) text(v *value, name, what string) bool {
	if !v.has(name) {
		m.add(v.place, "", "%s is missing: %s", name, what)
	}
	return v.isText(name)
}

// isText reports whether the table v has a text under that name.
func (v *value) isText(name string) bool {
	return v.has(name) && v.fields[name].kind == unstable.String
}

// name notes a name that nodes, partners, rules and other objects cannot have.
func (m *meaning) name(name string, at *value) bool {
	if !m.word(name, at) {
		return false
	}
	if strings.ContainsAny(name, "/?#%\\") || name == "." || name == ".." {
		m.add(at.place, "write - or _ instead", "a name is a part of addresses, as /v1/partners/NAME: it has none of / ? # %% \\, and is not . or ..")
		return false
	}
	return true
}

// word notes a name that nobody can have.
func (m *meaning) word(name string, at *value) bool {
	switch {
	case name == "" || len(name) > lifecycle.MaxName:
		m.add(at.place, "", "a name has 1 to %d bytes, this one %d", lifecycle.MaxName, len(name))
	case name == engine.AnyPartner:
		m.add(at.place, "", "%q means every partner and cannot be a name", name)
	case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		m.add(at.place, "", "a name has no spaces and no control characters")
	default:
		return true
	}
	return false
}

// register puts a partner or rule under its name, if that is good and free.
func register[T any](m *meaning, all map[string]*T, item *T, name, what string, v *value) {
	if !m.text(v, "name", "what the "+what+" is called") || !m.name(name, v.field("name")) {
		return
	}
	at := v.field("name").place
	id := what + " " + name
	if all[name] == nil {
		all[name] = item
		if m.first == nil {
			m.first = map[string]int{}
		}
		m.first[id] = at.offset
		return
	}
	switch here, there := m.source(at.offset), m.source(m.first[id]); {
	case here.applying && there.start == 0:
		m.add(at, "change it there, then pannier reload", "%s is in the node's file, %s:%d", id, there.name, m.row(m.first[id]))
		m.problems.list[len(m.problems.list)-1].kind = fault.Refused
	case here.start > 0:
		m.add(at, fmt.Sprintf("the other one is at %s:%d", there.name, m.row(m.first[id])), "there is a %s %q already", what, name)
	default:
		m.add(at, "", "there is a %s %q already", what, name)
	}
}

// atLeast notes a number or duration below its least value.
func atLeast[T int | float64 | int64 | size](m *meaning, v *value, name string, is, least T, words string) {
	if v.has(name) && v.fields[name].kind != unstable.Table && is < least && !m.noted(v.fields[name]) {
		m.add(v.fields[name].place, "", "%s is at least %s", name, words)
	}
}

// absolute notes a path that is not whole and clean.
func (m *meaning) absolute(path string, v *value, name string) bool {
	if !v.isText(name) {
		return false
	}
	switch clean := filepath.Clean(path); {
	case !filepath.IsAbs(path):
		m.add(v.field(name).place, "", "%q is not a whole path: a node has no directory to begin at; write one that begins with /", path)
	case strings.ContainsRune(path, 0):
		m.add(v.field(name).place, "", "a path has no NUL")
	case clean != path:
		m.add(v.field(name).place, "", "write %q", clean)
	default:
		return true
	}
	return false
}

// address reads an address to listen on or to dial, and refuses those that
// prove no partner.
func (m *meaning) address(text string, at *value) (carrier.Address, bool) {
	const hint = `as "tls://host:6610" or "unix:///path"`
	a, err := carrier.ParseAddress(text)
	switch {
	case err != nil:
		m.add(at.place, hint, "%q is no address: %s", text, unaccepted(err))
	case a.Scheme == carrier.InMemory:
		m.add(at.place, hint, "%q leads nowhere outside of a process", text)
	case a.Scheme == carrier.Stdio:
		m.add(at.place, hint, "a node has no stdin and stdout for partners; pannier stdio joins them with an address that it listens on")
	case a.Plain:
		a.Plain = false
		m.add(at.place, hint, "plain+ hides nothing and does not prove who calls: write %q", a.String())
	case a.Scheme == carrier.TCP:
		a.Scheme = carrier.TLS
		m.add(at.place, hint, "tcp hides nothing and does not prove who calls: write %q", a.String())
	default:
		return a, true
	}
	return a, false
}

// unaccepted is what is wrong with an address, without the list of what is
// accepted elsewhere.
func unaccepted(err error) string {
	why, _, _ := strings.Cut(words(err), "; accepted are")
	return why
}

// misread reports whether a document has sections of that kind, but not as such.
func misread(root *value, kind string) bool {
	kinds := keysOf(reflect.TypeFor[file]())
	for _, name := range root.names {
		if !slices.Contains(kinds, name) && strings.Contains(meant(name, kinds), strconv.Quote(kind)) {
			return true
		}
	}
	v := root.fields[kind]
	return v != nil && v.kind == unstable.Table
}
