package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/doctor"
)

// finds is what doctor says of a, with its exit code.
func (c *conduit) finds() (all []doctor.Finding, code int) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "pannier", "doctor", "--all", "--json", "--config", c.a.Config())
	out, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var f doctor.Finding
		if err := d.Decode(&f); err != nil {
			c.t.Fatal(err)
		}
		all = append(all, f)
	}
	return all, cmd.ProcessState.ExitCode()
}

// found wants a finding.
func (c *conduit) found(all []doctor.Finding, o doctor.Outcome, check, text string) {
	c.t.Helper()
	for _, f := range all {
		if f.Outcome == o && f.Check == check && strings.Contains(f.Subject+" "+f.Text+" "+f.Do, text) {
			return
		}
	}
	c.t.Errorf("no %s of %s %q in %+v", o, check, text, all)
}

// TestDoctor looks at a node with a partner: well, with another key, refused there, and gone;
// beside its daemon and without it.
func TestDoctor(t *testing.T) {
	c := newConduit(t)
	c.write(bridgeRules, bridgeRules)
	c.start(c.b, c.a)
	all, code := c.finds()
	if code != 0 {
		t.Errorf("exit code %d: %+v", code, all)
	}
	c.found(all, doctor.OK, "daemon", "answers at")
	c.found(all, doctor.OK, "store", "is on its disk")
	c.found(all, doctor.OK, "partner", "hostb version")
	c.found(all, doctor.Skipped, "address", "the daemon has it")

	if err := c.a.Stop(); err != nil {
		t.Fatal(err)
	}
	all, code = c.finds()
	if code != 0 {
		t.Errorf("exit code %d: %+v", code, all)
	}
	c.found(all, doctor.OK, "daemon", "none answers")
	c.found(all, doctor.OK, "store", "it is whole, of format")
	c.found(all, doctor.OK, "partner", "hostb version")
	c.found(all, doctor.OK, "address", "it is free")

	wrote, err := os.ReadFile(c.a.Config())
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.ReplaceAll(string(wrote), c.b.Key, "sha256:"+strings.Repeat("0", 64))
	c.wrote(c.a.Config(), []byte(wrong))
	all, code = c.finds()
	if code != 1 {
		t.Errorf("exit code %d: %+v", code, all)
	}
	c.found(all, doctor.Fail, "partner", "did not prove a key of partner")

	c.wrote(c.a.Config(), wrote)
	other, err := os.ReadFile(c.b.Config())
	if err != nil {
		t.Fatal(err)
	}
	c.wrote(c.b.Config(), []byte(strings.ReplaceAll(string(other), c.a.Key, "sha256:"+strings.Repeat("0", 64))))
	c.reload(c.b)
	all, _ = c.finds()
	c.found(all, doctor.Fail, "partner", "does not let this one in")

	c.b.Kill()
	all, _ = c.finds()
	c.found(all, doctor.Fail, "partner", "connection refused")
}
