package config

import (
	"cmp"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/engine/task/catalogue"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/quantity"
)

// What the sections about rules mean.

// rule completes r, which has what other rules' tasks look at.
func (m *meaning) rule(r *engine.Rule, t *ruleTable, v *value) {
	r.Root, r.Exists, r.Quota, r.Priority = t.Root, engine.Exists(t.Exists), int64(t.Quota), t.Priority
	r.Digest, r.Compress = sideeffect.Algorithm(t.Digest), sideeffect.Compression(t.Compress)
	r.Pool = t.Pool
	m.knownPool(t.Pool, v)
	r.Retry = m.retry(&t.Retry, v)
	m.text(v, "direction", "\"send\" or \"receive\", as the node sees it where a request is registered")
	if !v.has("partners") {
		m.add(v.key, "", "partners is missing: who may use the rule, as [\"hostb\"], or [\"*\"] for every partner")
	}
	for i, name := range t.Partners {
		if at := v.field("partners").item(i); name != engine.AnyPartner && !m.noted(at) {
			m.knownPartner(name, at)
		}
	}
	if m.text(v, "root", "the directory of its files, as \"/srv/"+t.Name+"\"") {
		m.root(r, v)
	}
	m.files = r.Root
	common := engine.Lists{Pre: m.list(t.Pre, v, "pre"), Post: m.list(t.Post, v, "post"), Error: m.list(t.Error, v, "error")}
	r.Sender = m.side(common, &t.Sender, v, "sender")
	r.Receiver = m.side(common, &t.Receiver, v, "receiver")
	if err := r.Check(); err != nil && len(m.problems.list) == 0 {
		m.add(v.key, "", "%s", words(err))
	}
}

// root reads where the rule's files are: a directory of this host, or one at a bridge.
func (m *meaning) root(r *engine.Rule, v *value) {
	at := v.field("root")
	if name := task.BridgeOf(r.Root); name != "" {
		r.Bridge, r.Root = r.Root, ""
		if dir := r.Bridge[len(name)+1:]; m.knownBridge(name, at) && path.Clean(dir) != dir {
			m.add(at.place, "", "write %q", name+":"+path.Clean(dir))
		}
	} else if m.absolute(r.Root, v, "root") {
		m.apart(r.Root, at)
	}
}

// apart notes a root in which the node's own files are, or which is among them:
// a partner would get at the private key.
func (m *meaning) apart(root string, at *value) {
	state := m.file.Node.State
	if within(root, state) || within(state, root) {
		m.add(at.place, "", "files of a rule and the node's state, %s, cannot be in one another: a partner would get at the node's key", state)
	}
}

// within reports whether a clean path, inner, is dir or below it.
func within(inner, dir string) bool {
	rel, err := filepath.Rel(dir, inner)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// knownPartner notes a name that is neither a partner's nor the node's own.
func (m *meaning) knownPartner(name string, at *value) bool {
	own := m.file.Node.Name
	if m.partners[name] != nil || m.bridges[name] != nil || name == own {
		return true
	}
	if m.misread {
		return false // noted
	}
	names := append(sorted(m.partners), sorted(m.bridges)...)
	if own != "" && !slices.Contains(names, own) {
		names = append(names, own)
	}
	m.add(at.place, "partners: "+listed(names), "no partner is called %q%s", name, meant(name, names))
	return false
}

func (m *meaning) retry(t *retryTable, v *value) engine.Retry {
	if v.has("retry") {
		v = v.field("retry")
		atLeast(m, v, "attempts", t.Attempts, 1, "1")
		atLeast(m, v, "factor", t.Factor, 1, "1: delays do not shrink")
		atLeast(m, v, "delay", int64(t.Delay), int64(time.Second), "1s")
		if v.isText("most") || v.isText("delay") {
			atLeast(m, v, "most", int64(t.Most), int64(t.Delay), "delay, the first one")
		}
	}
	return engine.Retry{Attempts: t.Attempts, Delay: time.Duration(t.Delay), Factor: t.Factor, Most: time.Duration(t.Most), Windows: t.Windows}
}

// side is the tasks of one side: a list of its own takes the place of the
// common one.
func (m *meaning) side(lists engine.Lists, t *listsTable, v *value, name string) engine.Lists {
	if !v.has(name) {
		return lists
	}
	own := v.field(name)
	for _, l := range []struct {
		name   string
		tables []task.Table
		list   *[]task.Step
	}{{"pre", t.Pre, &lists.Pre}, {"post", t.Post, &lists.Post}, {"error", t.Error, &lists.Error}} {
		if own.has(l.name) {
			*l.list = m.list(l.tables, own, l.name)
			m.receipts(l.tables, own, l.name, name)
		}
	}
	return lists
}

// receipts notes those in a list of the sender's.
func (m *meaning) receipts(tables []task.Table, v *value, list, side string) {
	for i := range tables {
		at := v.field(list).item(i)
		if side == "sender" && list != "pre" && tables[i].Task == "receipt" && at.has("task") && !m.noted(at.field("task")) {
			m.add(at.field("task").place, "", "a receipt is the receiver's: put it into receiver.post")
		}
	}
}

// list makes the tasks of v's list of that name.
func (m *meaning) list(tables []task.Table, v *value, name string) []task.Step {
	list := v.field(name)
	if len(tables) == 0 || list.kind != unstable.Array {
		return nil
	}
	if m.tasks == nil {
		m.tasks = catalogue.Tasks()
	}
	fine := true
	for i := range tables {
		fine = m.task(m.tasks, &tables[i], list.item(i), name) && fine
	}
	if !fine {
		return nil
	}
	steps, err := task.Make(m.tasks, tables)
	if err != nil {
		m.add(list.key, "", "%s", words(err))
	}
	return steps
}

// task notes what is wrong with one task.
func (m *meaning) task(all task.Catalogue, t *task.Table, v *value, list string) bool {
	if v.kind != unstable.Table {
		return false // noted
	}
	if !m.text(v, "task", "what to do; one of "+strings.Join(sorted(all), ", ")) {
		return false
	}
	at := v.field("task")
	kind, ok := all[t.Task]
	if !ok {
		names := sorted(all)
		m.add(at.place, "tasks: "+strings.Join(names, ", "), "no task is called %q%s", t.Task, meant(t.Task, names))
		return false
	}
	fine := m.settings(t.Task, kind.Keys, v)
	if _, err := kind.Make(t); err != nil && fine {
		m.add(m.culprit(kind, t, v, err), "", "%s: %s", t.Task, words(err))
		fine = false
	}
	fine = fine && m.some(v, "attempts", t.Attempts) && m.some(v, "max_files", t.MaxFiles) && m.some(v, "max_ratio", t.MaxRatio)
	if v.has("timeout") && t.Timeout <= 0 && !m.noted(v.field("timeout")) {
		m.add(v.field("timeout").place, "", "no task is done in no time; without timeout it may take %s", quantity.FormatDuration(cmp.Or(kind.Limit, task.DefaultTimeout)))
		fine = false
	}
	switch {
	case t.Task == "receipt" && list != "post":
		m.add(at.place, "", "%s", map[string]string{
			"pre":   "a receipt is of a file that has its name: put it into receiver.post",
			"error": "a receipt is of a request that has not failed: put it into receiver.post",
		}[list])
		fine = false
	case t.Task == "reschedule" && list != "error":
		m.add(at.place, "", "reschedule is for lists of error tasks")
		fine = false
	case t.Task == "transfer" && fine:
		fine = m.forward(t, v)
	case t.Task == "bridge" && fine:
		if at := "to"; t.To != "" {
			fine = m.knownBridge(task.BridgeOf(t.To), v.field(at))
		} else {
			fine = m.knownBridge(task.BridgeOf(t.From), v.field("from"))
		}
	}
	return fine
}

// some notes a number of a task that is written down and 0, which would be its default.
func (m *meaning) some(v *value, key string, n int) bool {
	if !v.has(key) || n != 0 {
		return true
	}
	m.add(v.field(key).place, "", "%s is 0: write 1 or more, or leave it out", key)
	return false
}

// culprit is where the setting is that a task is refused for: the one that the reason begins with;
// else the first without which it is not refused, or for another reason; else the task's name.
func (m *meaning) culprit(kind task.Kind, t *task.Table, v *value, why error) span {
	place := v.field("task").place
	better, text := 0, words(why)
	for i, key := range taskKeys {
		if key == "task" || !v.has(key) {
			continue
		}
		without := *t
		reflect.ValueOf(&without).Elem().Field(i).SetZero()
		good := 0
		switch _, err := kind.Make(&without); {
		case strings.HasPrefix(text, key+" ") || strings.HasPrefix(text, key+"["):
			good = 3
		case err == nil:
			good = 2
		case words(err) != text:
			good = 1
		}
		if good > better {
			better, place = good, v.field(key).place
		}
	}
	return place
}

// taskKeys are the keys of all tasks; others have been noted.
var taskKeys = keysOf(taskType)

// keysOfTask are those of the task that a table names; all, where it names none.
func keysOfTask(v *value, all []string) []string {
	if named := v.fields["task"]; named != nil {
		if kind, ok := catalogue.Tasks()[named.text]; ok {
			return append([]string{"task", "timeout"}, kind.Keys...)
		}
	}
	return all
}

// settings notes what the task does not look at, and is false also when a
// setting has been noted.
func (m *meaning) settings(name string, keys []string, v *value) bool {
	fine := true
	allowed := append([]string{"task", "timeout"}, keys...)
	for _, key := range v.names {
		fine = fine && !m.noted(v.fields[key])
		if slices.Contains(taskKeys, key) && !slices.Contains(allowed, key) {
			m.add(v.fields[key].key, "keys of "+name+": "+strings.Join(allowed, ", "), "%s does not use %q", name, key)
			fine = false
		}
	}
	return fine
}

// forward notes a transfer task that could never send.
func (m *meaning) forward(t *task.Table, v *value) bool {
	if !m.knownPartner(t.Partner, v.field("partner")) {
		return false
	}
	r := m.rules[t.Rule]
	at := v.field("rule").place
	switch {
	case r == nil:
		names := sorted(m.rules)
		m.add(at, "rules: "+listed(names), "no rule is called %q%s", t.Rule, meant(t.Rule, names))
	case r.Direction == engine.Receive:
		m.add(at, "", "a transfer sends, and the direction of rule %q is receive", t.Rule)
	case !r.Allows(t.Partner):
		m.add(at, "partners of the rule: "+listed(r.Partners), "rule %q is not for partner %q", t.Rule, t.Partner)
	case m.files != "" && r.Root != "" && (task.BridgeOf(r.Root) != "" || !engine.Related(m.files, r.Root)):
		m.add(at, "", "rule %q sends what is in %s, and the file is in %s: name a rule of that root, or of a directory above it", t.Rule, r.Root, m.files)
	default:
		return true
	}
	return false
}
