package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

var uploads = check{
	id: 34, title: "files named like plugins, configurations, services and what shells and loaders read, put into the watch folders of two daemons that run and begin in them: nothing is executed or loaded, and no plugin may lie there",
	unit: "executions", n: counts{reduced: 1, full: 5},
	mutant: "a script of a plugin may lie among the files of a rule",
	edits:  []edit{{"engine/config/bridges.go", "	if rule := m.ruleAround(a); rule != \"\" {", "	if rule := m.ruleAround(a); rule != \"\" && !mutant(\"34\") {"}},
	run:    runUploads,
}

// uploadNames are what somebody runs, loads or obeys somewhere.
var uploadNames = []string{
	"dir", "ftp", "sftp", "s3", "driver", "plugin", "pannier", "pannier-plugin-ftp", "pannier-plugin-dir", "plugins/ftp", "plugins/driver.so", "true", "env", "sh", "bin/true", "bin/sh",
	"pannier.toml", ".pannier.toml", "etc/pannier/pannier.toml", ".config/pannier/pannier.toml", "rules.d/evil.toml", "identity.pem", "store.db", "folders.db", "bridges.db", "admin.sock",
	"autorun", "autorun.sh", "autorun.inf", "autoexec.bat", ".autorun", "desktop.ini", "evil.service", "evil.timer", "evil.path", "evil.socket", ".config/systemd/user/evil.service", ".config/autostart/evil.desktop",
	".profile", ".bashrc", ".bash_profile", ".bash_login", ".zshenv", ".zshrc", ".kshrc", ".login", ".cshrc", "BASH_ENV", "ENV", ".ssh/rc", ".ssh/authorized_keys", ".ssh/config", ".forward", ".netrc", ".gitconfig",
	"cron.d/evil", "crontab", "init.d/evil", "rc.local", "profile.d/evil.sh", ".git/hooks/post-receive", "Makefile", "sitecustomize.py", "usercustomize.py", "conftest.py", "__init__.py", "box.py",
	"ld.so.preload", "libc.so.6", "evil.so", "libnss_files.so.2", "nsswitch.conf", "hosts", "resolv.conf", "a.out", "core", "run.exe", "evil.bat", "evil.desktop",
	"done", "READY", "evil.done", "evil.ready", "evil.ok", "post-receive", "pre", "post", "error", "a;touch x", "$(touch x)", "-rf", "--config=evil",
}

// uploadRun is two daemons that watch what they have received.
type uploadRun struct {
	*duo
	*note
	marks string // what runs makes a file there
}

func runUploads(ctx context.Context, j *job) (result, error) {
	var w note
	executions, files := 0, 0
	for i := range j.n {
		r := &uploadRun{note: &w, marks: filepath.Join(j.dir, fmt.Sprint("marks", i))}
		err := os.Mkdir(r.marks, 0o700)
		if err == nil {
			err = r.run(ctx, filepath.Join(j.dir, fmt.Sprint(i)))
		}
		if err != nil {
			return result{}, err
		}
		marks, err := os.ReadDir(r.marks)
		if err != nil {
			return result{}, fault.Wrap("read marks", "", err)
		}
		for _, m := range marks {
			w.add("%s was run", m.Name())
		}
		executions, files = executions+len(marks), files+2*len(uploadNames)
	}
	return w.result(float64(executions), "%d files in %d watch folders", files, 2*j.n), nil
}

// run has everything sent from hosta's folder to hostb, from whose folder it is sent back to another
// directory of hosta. Both daemons begin where the files are, which is their home, too.
func (r *uploadRun) run(ctx context.Context, dir string) (err error) {
	if r.duo, err = newDuo(ctx, dir, duoSettings{every: 1 << 20, window: 1 << 20}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	const folder = "[[folder]]\nname = \"box\"\nrule = %q\npartner = %q\ndir = \"box\"\nrecursive = true\nstable = \"20ms\"\n"
	command := argvOf("", "/usr/bin/env", "true")
	texts := map[*nodetest.Node]string{
		r.a: pushRule("push", "") + strings.ReplaceAll(pushRule("back", ""), "%ROOT%", "%ROOT%/returned") + fmt.Sprintf(folder, "push", "hostb"),
		r.b: pushRule("push", "post = ["+command+"]") + pushRule("back", "") + fmt.Sprintf(folder, "back", "hosta"),
	}
	for n, text := range texts {
		n.Kill()
		box := filepath.Join(n.Root, "box")
		n.Env = []string{"HOME=" + box, "XDG_CONFIG_HOME=" + filepath.Join(box, ".config")}
		err := os.MkdirAll(box, 0o755)
		if err == nil {
			err = os.MkdirAll(filepath.Join(n.Root, "returned"), 0o755)
		}
		if err == nil {
			err = n.Write([]string{`drain = "1s"`}, nil, text, r.other(n))
		}
		if err != nil {
			return err
		}
	}
	half := len(uploadNames) / 2
	if err := r.upload(uploadNames[:half]); err != nil {
		return err
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	if err := r.upload(uploadNames[half:]); err != nil {
		return err
	}
	if err := r.returned(ctx); err != nil {
		return err
	}
	for _, n := range []*nodetest.Node{r.a, r.b} {
		c, err := n.Client()
		if err == nil {
			_, err = c.Reload(ctx, &adminpb.ReloadRequest{})
		}
		if err != nil && fault.KindOf(err) != fault.Unsupported {
			return err
		}
		n.Kill()
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	for _, n := range []*nodetest.Node{r.a, r.b} {
		c, err := n.Client()
		if err != nil {
			return err
		}
		if rules, err := c.ListRules(ctx, &adminpb.ListRulesRequest{}); err != nil || len(rules.GetRules()) != 2 {
			r.add("%s has other rules: %v, %v", n.Name, rules, err)
		}
	}
	return r.plugin(ctx, texts[r.a])
}

func (r *uploadRun) begin(ctx context.Context) error {
	for _, n := range []*nodetest.Node{r.b, r.a} {
		if err := n.Start(ctx, "/usr/bin/env", "-C", filepath.Join(n.Root, "box")); err != nil {
			return err
		}
	}
	return nil
}

// upload puts programs into hosta's folder that leave a mark where they run, and configurations that
// would have such run.
func (r *uploadRun) upload(names []string) error {
	for _, name := range names {
		at := filepath.Join(r.a.Root, "box", name)
		mark := strings.NewReplacer("/", "_", ";", "_", "$", "_").Replace(name)
		text := fmt.Sprintf("#!/bin/sh\n: > '%s/%s'\n", r.marks, mark)
		if strings.HasSuffix(name, ".toml") {
			text = fmt.Sprintf("[node]\nname = \"evil\"\n%s", pushRule("evil", "pre = ["+argvOf("", "/usr/bin/touch", filepath.Join(r.marks, mark))+"]"))
		}
		err := os.MkdirAll(filepath.Dir(at), 0o755)
		if err == nil {
			err = os.WriteFile(at, []byte(text), 0o755)
		}
		if err != nil {
			return fault.Wrap("upload", name, err)
		}
	}
	return nil
}

// returned waits until all files have come through both folders.
func (r *uploadRun) returned(ctx context.Context) error {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		missing := ""
		for _, name := range uploadNames {
			if _, err := os.Stat(filepath.Join(r.a.Root, "returned", "box", name)); err != nil {
				missing = name
			}
		}
		switch {
		case missing == "":
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(began) > time.Minute:
			return fault.New("send files through folders", fault.Deadline, "%q has not come through", missing)
		}
	}
}

// plugin wants a file that was uploaded to be a plugin. The node does not begin with that.
func (r *uploadRun) plugin(ctx context.Context, text string) error {
	r.a.Kill()
	text += fmt.Sprintf("[[bridge]]\nname = \"evil\"\nplugin = \"/bin/sh\"\nargs = [%q]\nendpoint = \"evil://x\"\n", filepath.Join(r.a.Root, "box", "driver"))
	if err := r.a.Write([]string{`drain = "1s"`}, nil, text, r.b); err != nil {
		return err
	}
	err := r.a.Start(ctx)
	if err != nil {
		if !strings.Contains(err.Error(), "among the files of rule") {
			return err
		}
		return nil
	}
	r.add("a plugin may lie in a watch folder")
	c, err := r.a.Client()
	if err == nil {
		_, _ = c.TestPartner(ctx, &adminpb.TestPartnerRequest{Partner: "evil"}) // what it runs is no plugin
	}
	return err
}
