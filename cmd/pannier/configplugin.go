package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/doctor"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/plugins"
)

// What "config check" sees of bridges and listeners without running a plugin.

// foreign are warnings about what bridges, listeners and tasks name: one that the node would not
// start with, or that would not work. Files that this user may not look at are passed over.
func foreign(cfg *config.Config) (warnings []string) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Bridges)) {
		b := cfg.Bridges[name]
		who := "bridge " + name
		say := func(format string, args ...any) { warnings = append(warnings, who+": "+fmt.Sprintf(format, args...)) }
		if d := driver(b.Plugin, say); d != nil {
			is := d.Describe()
			if u, err := url.Parse(b.Endpoint); err == nil && !slices.Contains(is.Schemes, u.Scheme) {
				say("plugin %s has no endpoints of %s://, but of %s", b.Plugin, u.Scheme, strings.Join(is.Schemes, ", "))
				known(b.Options, is.Options, b.Plugin, say)
			} else if known(b.Options, is.Options, b.Plugin, say) {
				makesSense(b.Plugin, b.Endpoint, b.Options, say)
			}
			if b.Plugin == "ftp" && strings.HasPrefix(b.Endpoint, "ftp://") && b.Credentials != "" && slices.Contains([]string{"", "off"}, b.Options["tls"]) {
				say("with tls=off its password goes to the server unencrypted, and so do files: set options = [\"tls=require\"], if the server has TLS")
			}
		}
		looked(b.Credentials, 0o077, "others can read it, or its group can: make it the node's user's alone (chown), and say chmod 600", say)
	}
	for _, l := range cfg.Listeners {
		who := "listener " + l.Address
		say := func(format string, args ...any) { warnings = append(warnings, who+": "+fmt.Sprintf(format, args...)) }
		if d := driver(l.Plugin, say); d != nil {
			if _, serves := d.(plugins.Server); serves {
				if known(l.Options, d.Describe().Listen, l.Plugin, say) {
					makesSense(l.Plugin, "", l.Options, say)
				}
			} else {
				say("plugin %s serves no foreign clients", l.Plugin)
			}
		}
		for _, u := range l.Users {
			who = "listener " + l.Address + ", user " + u.Name
			if u.Password == "" && l.Plugin == "ftp" {
				say("clients of FTP have no keys: it needs a password")
			}
			looked(u.Keys, 0o022, "others can write to it; say chmod go-w", say)
			looked(u.Password, 0o022, "others can write to it; say chmod go-w", say)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Book.Rules)) {
		warnings = append(warnings, ofRule(cfg.Node.Name, cfg.Book.Rules[name])...)
		warnings = append(warnings, ofTasks(name, cfg.Book.Rules[name])...)
	}
	return warnings
}

// ofRule are warnings about a rule that works, and may be meant otherwise.
func ofRule(node string, r *engine.Rule) (warnings []string) {
	if slices.Equal(r.Partners, []string{node}) {
		warnings = append(warnings, fmt.Sprintf("rule %s: this node itself is its only partner; on this host partners names the other nodes", r.Name))
	}
	if slices.ContainsFunc(r.Sender.Post, func(s task.Step) bool { return s.Name == "receipt" }) {
		warnings = append(warnings, fmt.Sprintf("rule %s, task receipt: what this node sends by the rule fails with it, since only the receiver writes one; put it into receiver.post", r.Name))
	}
	return warnings
}

// ofTasks are warnings about the files that a rule's tasks read.
func ofTasks(rule string, r *engine.Rule) (warnings []string) {
	for _, side := range []engine.Lists{r.Sender, r.Receiver} {
		for _, step := range slices.Concat(side.Pre, side.Post, side.Error) {
			say := func(format string, args ...any) {
				if text := fmt.Sprintf("rule %s, task %s: "+format, append([]any{rule, step.Name}, args...)...); !slices.Contains(warnings, text) {
					warnings = append(warnings, text)
				}
			}
			canRun(step.Program, say)
			for _, path := range step.Files {
				looked(path, 0o022, "others can write to it; say chmod go-w", say)
			}
			for _, path := range step.Secrets {
				looked(path, 0o077, "others can read it, or its group can: make it the node's user's alone (chown), and say chmod 600", say)
			}
		}
	}
	return warnings
}

// driver is the plugin of a section if it is part of this program. Of another it is said
// what is wrong with its file.
func driver(plugin string, say func(string, ...any)) plugins.Driver {
	if !filepath.IsAbs(plugin) {
		if bundled[plugin] == nil {
			say("no plugin %q is part of this program, which has %s; one of one's own is named by the whole path of its program", plugin, strings.Join(slices.Sorted(maps.Keys(bundled)), ", "))
		}
		return bundled[plugin]
	}
	canRun(plugin, say)
	return nil
}

// canRun says what is wrong with a program.
func canRun(path string, say func(string, ...any)) {
	if path == "" {
		return
	}
	switch fi, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		say("there is no program %s on this host", path)
	case err == nil && (!fi.Mode().IsRegular() || fi.Mode()&0o111 == 0):
		say("%s is no program that can be run; a script is an argument of its interpreter", path)
	}
}

// known says which options a plugin does not have, and whether it has all.
func known(options map[string]string, all []plugins.Option, plugin string, say func(string, ...any)) (has bool) {
	has = true
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if !slices.ContainsFunc(all, func(o plugins.Option) bool { return o.Name == name }) {
			say("there is no option %q; pannier plugin describe %s prints which there are", name, plugin)
			has = false
		}
	}
	return has
}

// makesSense says with which options a plugin would not work.
func makesSense(plugin, endpoint string, options map[string]string, say func(string, ...any)) {
	if err := checkOptions(plugin, endpoint, options); err != nil {
		say("%s", err)
	}
}

// checkOptions is node.Options.Check.
func checkOptions(plugin, endpoint string, options map[string]string) error {
	if d, ok := bundled[plugin].(plugins.ListenChecker); ok && endpoint == "" {
		return d.CheckListen(options)
	}
	if d, ok := bundled[plugin].(plugins.EndpointChecker); ok && endpoint != "" {
		return d.CheckEndpoint(endpoint, options)
	}
	return nil
}

// looked says what is wrong with a file that has a secret: it is not there, or has a mode
// that it must not have.
func looked(path string, not fs.FileMode, why string, say func(string, ...any)) {
	if path == "" {
		return
	}
	switch fi, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		say("there is no file %s on this host", path)
	case err == nil && fi.Mode()&not != 0:
		say("%s: %s %s", path, why, path)
	}
}

// unreadable are warnings about files that the node's user may not read, if that is who looks, or root, who is that
// user from then on. Anybody else cannot tell.
func unreadable(cfg *config.Config) (warnings []string) {
	if err := asOwner(cfg.Node.State); err != nil {
		return []string{"which files the node's user can read is not seen: " + command.Cause(err)}
	}
	if owner, _, err := whoOwns(cfg.Node.State); err != nil || owner != os.Geteuid() {
		return nil
	}
	files := doctor.Secrets(cfg)
	for path, whose := range map[string]string{cfg.HTTP.Certificate: "http", cfg.HTTP.Key: "http", cfg.Push.Secret: "push"} {
		if path != "" {
			files[path] = whose
		}
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := unix.Access(path, unix.R_OK); errors.Is(err, fs.ErrPermission) {
			warnings = append(warnings, fmt.Sprintf("%s: the node's user, whose %s is, cannot read %s: give it to that user (chown), and let it into the directories above", files[path], cfg.Node.State, path))
		}
	}
	return warnings
}
