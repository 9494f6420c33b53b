package doctor

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/push"
	"github.com/pannier/pannier/spec/fault"
)

// Which options of the plugins that are part of this program name files, of a bridge and of a listener. An sftp
// listener's hostkey may be missing: it is made.
var (
	bridgeFiles   = []string{"ca", "known-hosts"}
	listenerFiles = []string{"cert", "key", "hostkey"}
)

// Secrets are the files of bridges, listeners and rules that the node's user has to read, each with one
// that it is for, as "bridge bank".
func Secrets(c *config.Config) map[string]string {
	files := map[string]string{}
	add := func(whose string, paths ...string) {
		for _, path := range paths {
			if path != "" {
				files[path] = whose
			}
		}
	}
	named := func(whose, plugin string, options map[string]string, names []string) {
		for _, name := range names {
			if !filepath.IsAbs(plugin) { // what the options of another's mean is not known
				add(whose, options[name])
			}
		}
	}
	for name, b := range c.Bridges {
		add("bridge "+name, b.Credentials)
		named("bridge "+name, b.Plugin, b.Options, bridgeFiles)
	}
	for _, l := range c.Listeners {
		whose := "listener " + l.Address
		named(whose, l.Plugin, l.Options, listenerFiles)
		for _, u := range l.Users {
			add(whose, u.Keys, u.Password)
		}
	}
	for name, r := range c.Book.Rules {
		for _, side := range []engine.Lists{r.Sender, r.Receiver} {
			for _, step := range slices.Concat(side.Pre, side.Post, side.Error) {
				add("rule "+name, slices.Concat(step.Files, step.Secrets)...)
			}
		}
	}
	return files
}

// secrets looks whether the node's user can read them. That one is missing, or has a mode that
// it must not have, the warnings of the configuration say of most.
func (e *exam) secrets() {
	files := Secrets(e.Config)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f, err := os.Open(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // of the configuration's warnings
		case err != nil:
			e.fail(path, "let the node's user read it", "%s cannot use it: %s", files[path], fault.WithoutPath(err))
		default:
			_ = f.Close()
			e.ok(path, "%s can read it", files[path])
		}
	}
	if path := e.Config.Push.Secret; path != "" {
		if _, err := push.ReadToken(path); err != nil {
			e.fail(path, "give it the endpoint's token, with mode 0600, for the node's user", "no finished record is pushed: %s", fault.Plain(err))
			return
		}
		e.ok(path, "the push can read it")
	}
}
