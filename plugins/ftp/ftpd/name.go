package ftpd

import (
	"strings"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// resolve is the name that a client means, from where it is. ".." leads no further up than
// the root.
func resolve(cwd, arg string) (string, error) {
	if len(arg) > maxLine {
		return "", fault.New("check name", fault.TooLong, "it is longer than %d bytes", plugins.MaxName)
	}
	if !strings.HasPrefix(arg, "/") {
		arg = cwd + "/" + arg
	}
	var kept []string
	for e := range strings.SplitSeq(arg, "/") {
		switch {
		case e == "" || e == ".":
		case e == "..":
			kept = kept[:max(len(kept)-1, 0)]
		default:
			kept = append(kept, e)
		}
	}
	name := "/" + strings.Join(kept, "/")
	return name, plugins.CheckName(name)
}

// name is a client's name, or the reply to a bad one.
func (c *client) name(arg string) (string, *reply) {
	name, err := resolve(c.cwd, arg)
	if err != nil {
		return "", refuse(553, "This cannot be a name: one is UTF-8, has at most %d bytes and no control characters.", plugins.MaxName)
	}
	return name, nil
}

// quoted is a name as in 257 "/a""b".
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
