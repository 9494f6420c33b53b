package config

import (
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/sideeffect"
)

// What the sections about bridges mean.

var digestText = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (m *meaning) allBridges(list *value) map[string]Bridge {
	m.bridges = map[string]*Bridge{}
	for i := range m.file.Bridge {
		t, v := &m.file.Bridge[i], list.item(i)
		b := &Bridge{Name: t.Name, Plugin: t.Plugin, Args: t.Args, SHA256: strings.ToLower(t.SHA256), Endpoint: t.Endpoint, FXP: t.FXP, Memory: int64(t.Memory), Files: t.Files, Bandwidth: m.timetable(t.Bandwidth, v), Pool: t.Pool, Concurrent: t.Concurrent}
		m.knownPool(t.Pool, v)
		register(m, m.bridges, b, t.Name, "bridge", v)
		m.bridge(b, t, v)
	}
	for i := range m.file.Bridge {
		m.direct(&m.file.Bridge[i], list.item(i))
	}
	made := map[string]Bridge{}
	for name, b := range m.bridges {
		made[name] = *b
	}
	return made
}

func (m *meaning) bridge(b *Bridge, t *bridgeTable, v *value) {
	if at := v.field("name"); v.isText("name") && !m.noted(at) {
		switch {
		case m.partners[t.Name] != nil:
			m.add(at.place, "", "a partner is called %q", t.Name)
		case strings.ContainsAny(t.Name, ":/{}"):
			m.add(at.place, "", "the name of a bridge has no \":\", \"/\", \"{\" and \"}\": tasks write it before a name at its server")
		}
	}
	m.program(t.Plugin, t.Args, b.SHA256, v)
	m.confined(t.Memory, t.Files, v)
	if m.text(v, "endpoint", `the server, as "ftp://warehouse.example:21/base"`) {
		at := v.field("endpoint")
		switch u, err := url.Parse(t.Endpoint); {
		case err != nil || u.Scheme == "":
			m.add(at.place, `as "ftp://warehouse.example:21/base"`, "%q is no URL", t.Endpoint)
		case u.User != nil:
			m.add(at.place, `put them into a file, and write credentials = "file:/etc/pannier/warehouse"`, "user and password are not for the endpoint, which logs and lists show")
		}
	}
	if v.isText("credentials") {
		path, ok := strings.CutPrefix(t.Credentials, "file:")
		if !ok || !filepath.IsAbs(path) {
			m.add(v.field("credentials").place, `as "file:/etc/pannier/warehouse"`, "credentials are in a file, which is named by its whole path")
		}
		b.Credentials = path
	}
	atLeast(m, v, "concurrent", t.Concurrent, 1, "1")
	b.Options = m.options(t.Options, v)
}

// program notes what is wrong with the plugin that a section names.
func (m *meaning) program(plugin string, args []string, sha256 string, v *value) {
	if m.text(v, "plugin", `what speaks the protocol, as "ftp"; pannier plugin list prints which there are`) {
		if at := v.field("plugin"); strings.ContainsRune(plugin, filepath.Separator) && (!filepath.IsAbs(plugin) || filepath.Clean(plugin) != plugin) {
			m.add(at.place, `as "ftp" or "/usr/lib/pannier/pannier-plugin-box"`, "%q is neither a plugin's name nor a whole path", plugin)
		}
	}
	if rule := m.ruleAround(plugin); rule != "" {
		m.add(v.field("plugin").place, "", "%q is among the files of rule %q: whoever may put files there could have this node run them", plugin, rule)
	}
	if len(args) > 0 && plugin != "" && !strings.ContainsRune(plugin, filepath.Separator) {
		m.add(v.field("args").place, "", "%q is part of pannier and takes no arguments", plugin)
	}
	for i, a := range args {
		at := v.field("args").item(i)
		if !m.noted(at) && strings.ContainsRune(a, 0) {
			m.add(at.place, "", "an argument has no NUL")
		}
		if rule := m.ruleAround(a); rule != "" {
			m.add(at.place, "", "%q is among the files of rule %q: whoever may put files there could have this node run them", a, rule)
		}
	}
	if v.isText("sha256") && !digestText.MatchString(sha256) {
		m.add(v.field("sha256").place, "sha256sum prints it", "a digest has 64 hexadecimal digits")
	}
}

// confined notes limits with which no plugin begins.
func (m *meaning) confined(memory size, files int64, v *value) {
	if int64(memory) != sideeffect.NoQuota {
		atLeast(m, v, "memory", memory, 64<<20, "64MiB")
	}
	atLeast(m, v, "files", files, 64, "64")
}

// ruleAround is a rule in whose root a path lies; "": none.
func (m *meaning) ruleAround(path string) string {
	for i := range m.file.Rule {
		if r := &m.file.Rule[i]; filepath.IsAbs(path) && filepath.IsAbs(r.Root) && within(path, r.Root) {
			return r.Name
		}
	}
	return ""
}

// options are those of a plugin, "NAME=VALUE".
func (m *meaning) options(texts []string, v *value) (all map[string]string) {
	for i, text := range texts {
		at := v.field("options").item(i)
		if m.noted(at) {
			continue
		}
		name, is, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			m.add(at.place, `as "tls=require"; pannier plugin describe prints which there are`, "%q is no option: write NAME=VALUE", text)
			continue
		}
		if _, twice := all[name]; twice {
			m.add(at.place, "", "%s is there twice", name)
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = is
	}
	return all
}

// direct notes what is wrong with the bridges that one exchanges files with.
func (m *meaning) direct(t *bridgeTable, v *value) {
	for i, name := range t.FXP {
		at := v.field("fxp").item(i)
		switch {
		case m.noted(at) || !m.knownBridge(name, at):
		case name == t.Name:
			m.add(at.place, "", "a server needs no consent to copy at itself")
		case m.bridges[name].Plugin != t.Plugin || !slices.Equal(m.bridges[name].Args, t.Args):
			m.add(at.place, "", "%s speaks another protocol: its plugin is %q", name, strings.Join(append([]string{m.bridges[name].Plugin}, m.bridges[name].Args...), " "))
		case !slices.Contains(m.bridges[name].FXP, t.Name):
			m.add(at.place, "write fxp = [\""+t.Name+"\"] there, too", "%s does not name %s: both have to", name, t.Name)
		}
	}
}

// withBridges has the bridges as partners, and for each a rule to copy from it to the others.
func (m *meaning) withBridges() engine.Book {
	names := sorted(m.bridges)
	for _, name := range names {
		b := m.bridges[name]
		m.partners[name] = &engine.Partner{Name: name, Address: b.Endpoint, Bandwidth: b.Bandwidth, Pool: b.Pool, Concurrent: b.Concurrent, Bridge: true}
		if rule := engine.CopyRule(name); m.rules[rule] == nil {
			m.rules[rule] = &engine.Rule{Name: rule, Direction: engine.Send, Partners: names, Bridge: name + ":/", Quota: sideeffect.NoQuota}
		}
	}
	return engine.Book{Partners: m.partners, Rules: m.rules, Pools: m.pools}
}

// knownBridge notes a name that no bridge has.
func (m *meaning) knownBridge(name string, at *value) bool {
	if m.bridges[name] != nil {
		return true
	}
	names := sorted(m.bridges)
	m.add(at.place, "bridges: "+listed(names), "no bridge is called %q%s", name, meant(name, names))
	return false
}
