package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/backup"
	"github.com/pannier/pannier/spec/adminpb"
)

// backupParts is a configuration with all that a node remembers something of.
const backupParts = `
[http]
listen = ["tls://127.0.0.1:0"]
[audit]
enabled = true
[[folder]]
name = "box"
rule = "out"
partner = "hostb"
dir = "box"
stable = "30ms"
[[schedule]]
name = "nightly"
cron = "0 3 * * *"
rule = "out"
partner = "hostb"
source = "x"
`

// notInBackup are files of a state directory that a backup need not have, and why.
var notInBackup = map[string]string{
	"identity.pem": "a key, which is asked for", "http.pem": "a key, which is asked for",
	"audit/audit.key": "a key, which is asked for",
	"store.db.log-0":  "folded into the store", "store.db.log-1": "folded into the store",
	"uploads.json": "of partial files, which are in no backup",
	"namings.json": "of files that have no request yet, which are in no backup",
	"admin.sock":   "a socket", "http.sock": "a socket",
}

// TestBackupHasAll: each file of a state directory is in the backup, or known not to be.
func TestBackupHasAll(t *testing.T) {
	c := newConduit(t)
	c.write(bridgeRules+backupParts+dirBridge("away", t.TempDir()), bridgeRules)
	if err := os.Mkdir(filepath.Join(c.a.Root, "box"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.start(c.b, c.a)
	c.drop("dropped", "in the folder")
	c.until("what was dropped has arrived", func() bool { return c.arrived("dropped", "in the folder") })
	c.does("token", "create", "ci", "--scope", "read")
	for _, key := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "backup.zip")
		args := []string{"backup", file}
		if key {
			args = append(args, "--with-key")
		}
		c.does(args...)
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		a, err := backup.Open(f, fi.Size())
		if err != nil {
			t.Fatal(err)
		}
		err = filepath.WalkDir(c.a.State, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			name, err := filepath.Rel(c.a.State, path)
			switch why := notInBackup[name]; {
			case !a.Has(name) && (why == "" || key && strings.Contains(why, "key")):
				t.Errorf("with key %v: %s is not in it", key, name)
			case a.Has(name) && why != "" && !key:
				t.Errorf("%s is in it, which is %s", name, why)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"store.db", "folders.db", "schedules.db", "bridges.db", "objects.json", "audit/audit-00000001.jsonl"} {
			if !a.Has(name) {
				t.Errorf("%s is not in it", name)
			}
		}
	}
}

// TestBackupRestored: a node that has lost its state directory goes on from a backup. What was over stays
// so, what came after it is its partner's to know, nothing that failed is called a success.
func TestBackupRestored(t *testing.T) {
	c := newConduit(t)
	c.write(bridgeRules+"[audit]\nenabled = true\n", bridgeRules)
	c.start(c.b, c.a)
	client := c.client(c.a)
	submit := func(name string, size int) *adminpb.Ref {
		c.wrote(filepath.Join(c.a.Root, name), noise(size))
		r, err := client.Submit(t.Context(), &adminpb.SubmitRequest{Partner: "hostb", Rule: "out", Source: name, Target: name})
		if err != nil {
			t.Fatal(err)
		}
		return &adminpb.Ref{Id: r.GetRequest().GetId()}
	}
	done := func(ref *adminpb.Ref) {
		t.Helper()
		r, err := client.Wait(t.Context(), &adminpb.WaitRequest{Ref: ref})
		if err != nil || r.GetState() != adminpb.Request_DONE {
			t.Fatalf("%v, %v", r, err)
		}
	}
	before := submit("before", 1000)
	done(before)
	if err := c.b.Stop(); err != nil {
		t.Fatal(err)
	}
	within := submit("within", 1000) // registered before the backup, and over behind it
	file := filepath.Join(t.TempDir(), "backup.zip")
	c.does("backup", file)
	c.start(c.b)
	done(within)
	after := submit("after", 1000)
	done(after)

	restore := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "pannier", append(append([]string{"restore"}, args...), "--config", c.a.Config())...).CombinedOutput()
		return string(out), err
	}
	if out, err := restore("--dry-run", file); err != nil || !strings.Contains(out, "hosta") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := restore(file); err == nil || !strings.Contains(out, "is there already") {
		t.Errorf("beside a node that runs: %v: %s", err, out)
	}
	if err := c.a.Stop(); err != nil {
		t.Fatal(err)
	}
	lost := c.a.State + ".lost"
	if err := os.Rename(c.a.State, lost); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(c.a.State, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(lost, backup.Identity))
	if err != nil {
		t.Fatal(err)
	}
	c.wrote(filepath.Join(c.a.State, backup.Identity), key)
	if err := os.Chmod(filepath.Join(c.a.State, backup.Identity), 0o600); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(c.a.State, ".restoring")
	if err := os.Mkdir(mark, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "pannier", "serve", "--config", c.a.Config()).CombinedOutput(); err == nil || !strings.Contains(string(out), "pannier restore") {
		t.Errorf("serve beside a restore that was interrupted: %v: %s", err, out)
	}
	if out, err := restore(file); err != nil || !strings.Contains(out, "restored to "+c.a.State) {
		t.Fatalf("%v: %s", err, out)
	}
	c.start(c.a)
	client = c.client(c.a)
	done(before)
	if _, err := client.Get(t.Context(), after); err == nil {
		t.Error("it knows what came after the backup")
	}
	r, err := client.Wait(t.Context(), &adminpb.WaitRequest{Ref: within})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("what has gone on since is %v here: %s", r.GetState(), r.GetFailure())
	if r.GetState() == adminpb.Request_DONE {
		c.has(filepath.Join(c.b.Root, "within"), noise(1000))
	} else if !strings.Contains(fmt.Sprint(r.GetFailure()), "backup") {
		t.Errorf("%v", r.GetFailure())
	}
	done(submit("new", 1000))
	c.has(filepath.Join(c.b.Root, "after"), noise(1000))
	if out, err := exec.CommandContext(t.Context(), "pannier", "audit", "verify", "--config", c.a.Config()).CombinedOutput(); err != nil {
		t.Errorf("the audit log goes on: %v: %s", err, out)
	}
}
