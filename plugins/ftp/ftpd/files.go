package ftpd

import (
	"context"

	"github.com/pannier/pannier/plugins"
)

func (c *client) sizeCommand(arg string) reply {
	return c.asking(arg, func(ctx context.Context, name string) reply {
		a, err := c.session.Stat(ctx, name)
		switch {
		case err != nil:
			return c.failed("SIZE", name, err)
		case a.Dir:
			return say(550, "%s: not a regular file", name)
		case a.Size < 0:
			return say(550, "%s: its size is not known", name)
		}
		return say(213, "%d", a.Size)
	})
}

func (c *client) mdtmCommand(arg string) reply {
	return c.asking(arg, func(ctx context.Context, name string) reply {
		a, err := c.session.Stat(ctx, name)
		switch {
		case err != nil:
			return c.failed("MDTM", name, err)
		case a.Modified.IsZero():
			return say(550, "%s: its time is not known", name)
		}
		return say(213, "%s", a.Modified.UTC().Format(timeForm))
	})
}

func (c *client) rnfrCommand(arg string) reply {
	return c.asking(arg, func(ctx context.Context, name string) reply {
		if _, ok := c.session.(plugins.Renamer); !ok || !c.can.Rename {
			return say(550, "%s: nothing is renamed here", name)
		}
		if _, err := c.session.Stat(ctx, name); err != nil {
			return c.failed("RNFR", name, err)
		}
		c.rename = name
		return say(350, "Now RNTO.")
	})
}

func (c *client) rntoCommand(arg string) reply {
	from := c.rename
	c.rename = ""
	if from == "" {
		return say(503, "RNFR comes first.")
	}
	return c.asking(arg, func(ctx context.Context, name string) reply {
		if err := c.session.(plugins.Renamer).Rename(ctx, from, name); err != nil {
			return c.failed("RNTO", name, err)
		}
		return say(250, "It is %s now.", quoted(name))
	})
}

func (c *client) deleCommand(arg string) reply { return c.remove("DELE", arg, false) }

func (c *client) rmdCommand(arg string) reply { return c.remove("RMD", arg, true) }

// remove removes a file, or a directory that is empty.
func (c *client) remove(verb, arg string, dir bool) reply {
	return c.asking(arg, func(ctx context.Context, name string) reply {
		r, ok := c.session.(plugins.Remover)
		if !ok || !c.can.Remove {
			return say(550, "%s: nothing is removed here", name)
		}
		a, err := c.session.Stat(ctx, name)
		switch {
		case err != nil:
			return c.failed(verb, name, err)
		case a.Dir && !dir:
			return say(550, "%s: is a directory", name)
		case !a.Dir && dir:
			return say(550, "%s: not a directory", name)
		case name == "/":
			return say(550, "/: not permitted")
		}
		if err := r.Remove(ctx, name); err != nil {
			return c.failed(verb, name, err)
		}
		return say(250, "%s is gone.", quoted(name))
	})
}

func (c *client) mkdCommand(arg string) reply {
	return c.asking(arg, func(ctx context.Context, name string) reply {
		m, ok := c.session.(plugins.Maker)
		if !ok || !c.can.Mkdir {
			return say(550, "%s: no directories are made here", name)
		}
		if _, err := c.session.Stat(ctx, name); err == nil {
			return say(550, "%s: already exists", name)
		}
		if err := m.Mkdir(ctx, name); err != nil {
			return c.failed("MKD", name, err)
		}
		return say(257, "%s is made.", quoted(name))
	})
}
