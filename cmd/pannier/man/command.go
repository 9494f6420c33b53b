package man

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command is the page of a command. The one of the root has the topics of its help, too.
func Command(cmd *cobra.Command, date time.Time) []byte {
	p := newPage(Name(cmd), 1, date, cmd.Short)
	p.section("synopsis")
	p.line(bold(cmd.CommandPath()) + escape(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath())))
	p.section("description")
	p.text(longest(cmd.Long, cmd.Short))
	p.commands(cmd)
	p.flags("options", cmd.NonInheritedFlags())
	p.flags("options of every command", cmd.InheritedFlags())
	if cmd.Example != "" {
		p.section("examples")
		p.literal(undent(cmd.Example))
	}
	see := []string{"pannier.toml(5)"}
	if cmd.HasParent() {
		see = append(see, Name(cmd.Parent())+"(1)")
	}
	for _, c := range cmd.Commands() {
		switch {
		case c.IsAdditionalHelpTopicCommand():
			p.section(c.Short)
			p.text(c.Long)
		case c.IsAvailableCommand():
			see = append(see, Name(c)+"(1)")
		}
	}
	slices.Sort(see)
	p.section("see also")
	p.line(escape(strings.Join(see, ", ")))
	return []byte(p.b.String())
}

// Name is that of a command's page.
func Name(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func longest(texts ...string) (most string) {
	for _, t := range texts {
		if len(t) > len(most) {
			most = t
		}
	}
	return most
}

// text is a help's text: paragraphs, and what is aligned.
func (p *page) text(text string) {
	for _, part := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		if strings.HasPrefix(part, " ") || strings.Contains(part, "  ") || strings.Contains(part, "\n ") {
			p.literal(part)
		} else {
			p.paragraph(escape(part))
		}
	}
}

func (p *page) commands(cmd *cobra.Command) {
	var all []*cobra.Command
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && !c.IsAdditionalHelpTopicCommand() {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return
	}
	p.section("commands")
	for _, c := range all {
		p.tagged(bold(c.Name()), escape(c.Short))
	}
}

func (p *page) flags(title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	p.section(title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		term := bold("--" + f.Name)
		if f.Shorthand != "" {
			term = bold("-"+f.Shorthand) + ", " + term
		}
		if value != "" {
			term += " " + italic(value)
		}
		if d := f.DefValue; !slices.Contains([]string{"", "0", "0s", "false", "[]"}, d) && !strings.Contains(usage, "(default") {
			usage += " (default: " + d + ")"
		}
		p.tagged(term, escape(usage))
	})
}

// undent takes away the spaces that all lines begin with.
func undent(text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, "  ")
	}
	return strings.Join(lines, "\n")
}
