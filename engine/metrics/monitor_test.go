package metrics

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"go.yaml.in/yaml/v3"
)

// TestMonitor: every expression of the rules and the dashboard can be read, and names only
// metrics that there are, labels that these have, and statuses that spec/metrics.md gives them.
func TestMonitor(t *testing.T) {
	families, err := used(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, f := range families {
		known[f.GetName()] = true
		if strings.HasSuffix(f.GetType().String(), "HISTOGRAM") {
			known[f.GetName()+"_bucket"] = true
		}
	}
	rules, recorded := rulesOf(t)
	for _, name := range recorded {
		known[name] = true
	}
	for _, expr := range append(rules, dashboard(t)...) {
		expr = strings.ReplaceAll(expr, "$__rate_interval", "5m")
		e, err := metricsql.Parse(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		labelled(t, expr, e, known)
		metricsql.VisitAll(e, func(e metricsql.Expr) {
			m, ok := e.(*metricsql.MetricExpr)
			if !ok {
				return
			}
			for _, filters := range m.LabelFilterss {
				if len(filters) == 0 || filters[0].Label != "__name__" || !known[filters[0].Value] {
					t.Errorf("%s: there is no metric %v", expr, filters)
				}
			}
		})
	}
}

// labelled wants every label of an expression to be one of a metric in it, and every value that a
// label is compared with to stand in the metric's line of spec/metrics.md. What a rule has recorded,
// and metrics of the process, have no line.
func labelled(t *testing.T, text string, e metricsql.Expr, known map[string]bool) {
	t.Helper()
	doc, err := os.ReadFile("../../spec/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	lines, list := strings.Split(string(doc), "\n"), listed(t)
	has := map[string]bool{"instance": true, "le": true}
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		m, ok := e.(*metricsql.MetricExpr)
		if !ok || len(m.LabelFilterss) == 0 {
			return
		}
		for _, filters := range m.LabelFilterss {
			name := strings.TrimSuffix(filters[0].Value, "_bucket")
			_, labels, _ := strings.Cut(list[name], " ")
			for _, l := range strings.Split(labels, ", ") {
				has[l] = true
			}
			for _, f := range filters[1:] {
				if f.Label == "instance" || !strings.HasPrefix(name, "pannier_") {
					continue
				}
				if !strings.Contains(", "+labels+",", ", "+f.Label+",") {
					t.Errorf("%s: %s has no label %s", text, name, f.Label)
				}
				line := lines[slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "| `"+name+"`") })]
				for _, value := range strings.Split(f.Value, "|") {
					if !strings.Contains(line, "`"+value+"`") {
						t.Errorf("%s: the list gives %s no %s %q", text, name, f.Label, value)
					}
				}
			}
		}
	})
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		a, ok := e.(*metricsql.AggrFuncExpr)
		if !ok {
			return
		}
		for _, label := range a.Modifier.Args {
			if !has[label] {
				t.Errorf("%s: nothing in it has a label %s", text, label)
			}
		}
	})
}

// TestAlertsAreTested: each alert has a case in which it is there, and one in which it is not.
func TestAlertsAreTested(t *testing.T) {
	var rules struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	var tests struct {
		Tests []struct {
			Cases []struct {
				Name string `yaml:"alertname"`
				Want []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	for path, to := range map[string]any{"rules.yml": &rules, "rules_test.yml": &tests} {
		text, err := os.ReadFile("../../spec/monitor/" + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, to); err != nil {
			t.Fatal(err)
		}
	}
	there, silent, alerts := map[string]bool{}, map[string]bool{}, 0
	for _, one := range tests.Tests {
		for _, c := range one.Cases {
			there[c.Name] = there[c.Name] || len(c.Want) > 0
			silent[c.Name] = silent[c.Name] || len(c.Want) == 0
		}
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			if alerts++; !there[r.Alert] || !silent[r.Alert] {
				t.Errorf("%s: rules_test.yml has to have a time at which it is there, and one at which it is not", r.Alert)
			}
		}
	}
	if alerts == 0 {
		t.Error("no alerts are found")
	}
}

// TestPromtool: Prometheus's own program takes the rules, their tests hold, and it finds nothing
// wrong with what is served. PANNIER_PROMTOOL is where it is.
func TestPromtool(t *testing.T) {
	program := os.Getenv("PANNIER_PROMTOOL")
	if _, err := os.Stat(program); err != nil {
		t.Skip("no promtool at PANNIER_PROMTOOL; .ci/test gets it")
	}
	run := func(in string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir, cmd.Stdin = "../../spec/monitor", strings.NewReader(in)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	run("", "check", "config", "--syntax-only", "scrape.yml")
	run("", "check", "rules", "rules.yml")
	run("", "test", "rules", "rules_test.yml")
	_, text := get(used(t).Handler())
	run(text, "check", "metrics")
}

func rulesOf(t *testing.T) (exprs, recorded []string) {
	t.Helper()
	data, err := os.ReadFile("../../spec/monitor/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name, Interval string
			Rules          []struct {
				Record, Alert, Expr, For string
				Labels, Annotations      map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(string(data)))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if exprs = append(exprs, r.Expr); r.Record != "" {
				recorded = append(recorded, r.Record)
			}
			for _, text := range r.Annotations {
				shows(t, r.Expr, text)
			}
			if r.Alert != "" && r.Annotations["summary"] == "" || (r.Alert == "") == (r.Record == "") {
				t.Errorf("%s%s is neither an alert with a summary nor a record", r.Alert, r.Record)
			}
		}
	}
	if len(exprs) < 8 {
		t.Fatalf("%d rules", len(exprs))
	}
	return exprs, recorded
}

var (
	shown  = regexp.MustCompile(`\{\{ *(?:\$labels\.)?(\w+) *\}\}`)
	kept   = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
	metric = regexp.MustCompile(`^\w+`)
)

// shows wants every label that a text shows to be one of what its expression gives: those that it is summed by or
// compared on, or else those of its metric.
func shows(t *testing.T, expr, text string) {
	t.Helper()
	_, has, _ := strings.Cut(listed(t)[metric.FindString(expr)], " ")
	for _, m := range kept.FindAllStringSubmatch(expr, -1) {
		has = m[1]
	}
	for _, m := range shown.FindAllStringSubmatch(text, -1) {
		if m[1] != "instance" && !slices.Contains(strings.Split(has, ", "), m[1]) {
			t.Errorf("%q shows the label %s, and %s has %s", text, m[1], expr, has)
		}
	}
}

func dashboard(t *testing.T) (exprs []string) {
	t.Helper()
	data, err := os.ReadFile("../../spec/monitor/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	for _, p := range file.Panels {
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
			shows(t, target.Expr, target.LegendFormat)
		}
	}
	if len(exprs) < 10 {
		t.Fatalf("%d expressions", len(exprs))
	}
	return exprs
}
