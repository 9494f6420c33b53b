package metrics

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"go.yaml.in/yaml/v3"
)

// TestMonitor: every expression of the rules and the dashboard can be read, and names only
// metrics that there are.
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

func dashboard(t *testing.T) (exprs []string) {
	t.Helper()
	data, err := os.ReadFile("../../spec/monitor/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	for _, p := range file.Panels {
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
		}
	}
	if len(exprs) < 10 {
		t.Fatalf("%d expressions", len(exprs))
	}
	return exprs
}
