package ftpd

import (
	"strconv"
	"strings"

	"github.com/pannier/pannier/plugins"
)

// factNames are what MLST and MLSD tell, in their order.
var factNames = []string{"type", "size", "modify", "perm"}

func allFacts() map[string]bool {
	m := map[string]bool{}
	for _, f := range factNames {
		m[f] = true
	}
	return m
}

// factsLine has a star behind what is chosen, as FEAT does.
func (c *client) factsLine() string {
	var b strings.Builder
	for _, f := range factNames {
		b.WriteString(f)
		if c.facts[f] {
			b.WriteByte('*')
		}
		b.WriteByte(';')
	}
	return b.String()
}

// chooseFacts is OPTS MLST.
func (c *client) chooseFacts(list string) reply {
	chosen := map[string]bool{}
	for f := range strings.SplitSeq(strings.ToLower(list), ";") {
		chosen[f] = true
	}
	c.facts = map[string]bool{}
	said := ""
	for _, f := range factNames {
		if chosen[f] {
			c.facts[f] = true
			said += f + ";"
		}
	}
	return say(200, "MLST OPTS %s", said)
}

// entry is a line of MLST and MLSD, without its end.
func (c *client) entry(a plugins.Attr, name string) string {
	var b strings.Builder
	for _, f := range factNames {
		v := ""
		switch {
		case !c.facts[f]:
		case f == "type" && a.Dir:
			v = "dir"
		case f == "type":
			v = "file"
		case f == "size" && !a.Dir && a.Size >= 0:
			v = strconv.FormatInt(a.Size, 10)
		case f == "modify" && !a.Modified.IsZero():
			v = a.Modified.UTC().Format(timeForm)
		case f == "perm":
			v = c.perm(a.Dir)
		}
		if v != "" {
			b.WriteString(f + "=" + v + ";")
		}
	}
	return b.String() + " " + name
}

// timeForm is that of MDTM and of facts, in UTC.
const timeForm = "20060102150405"

// perm is what the client may try with an entry.
func (c *client) perm(dir bool) string {
	var b strings.Builder
	for _, p := range []struct {
		letter       byte
		file, folder bool
	}{
		{'r', true, false}, {'w', c.can.Write, false}, {'e', false, true}, {'l', false, c.can.List}, {'c', false, c.can.Write}, {'m', false, c.can.Mkdir},
		{'d', c.can.Remove, c.can.Remove}, {'f', c.can.Rename, c.can.Rename},
	} {
		if dir && p.folder || !dir && p.file {
			b.WriteByte(p.letter)
		}
	}
	return b.String()
}
