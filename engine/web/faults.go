package web

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/spec/adminpb"
)

// Failures by cause: those that need the same remedy are one line.

// cause is a group of failures.
type cause struct {
	ID, Name, Where, Text string
	Partner               string
	Count                 int
	Last                  time.Time
	LastAgo               string
	Query                 string // the filter that finds them
	Caller                Caller
}

// causes is the page.
type causes struct {
	Causes []cause
	Failed int
	Caller Caller
}

var variable = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[0-9a-f]{16,}|[0-9]+`)

// textOf is a cause without what is different in each: names, quoted words, numbers.
func textOf(r *adminpb.Request) string {
	text := r.GetFailure().GetCause()
	for _, name := range []string{r.GetSource(), r.GetTarget(), r.GetFile()} {
		if len(name) > 2 {
			text = strings.ReplaceAll(text, name, "…")
		}
	}
	return variable.ReplaceAllString(text, "…")
}

// causeOf is short, and the same for failures that are one group.
func causeOf(r *adminpb.Request) string {
	f := r.GetFailure()
	sum := sha256.Sum256([]byte(f.GetName() + "\x00" + f.GetSide() + "\x00" + r.GetPartner() + "\x00" + textOf(r)))
	return hex.EncodeToString(sum[:6])
}

func (p *Page) errors(v *visit) error {
	c, err := p.causes(v)
	if err != nil {
		return err
	}
	v.page(http.StatusOK, "errors", "Errors", "errors", c)
	return nil
}

func (p *Page) liveErrors(v *visit) error {
	return v.stream(func(s *stream) error {
		c, err := p.causes(v)
		if err != nil {
			return err
		}
		return s.tell("causes", "causes", c)
	})
}

// causes are the groups, the largest first.
func (p *Page) causes(v *visit) (c causes, err error) {
	all, err := v.seen().board.look(v.ctx())
	if err != nil {
		return c, err
	}
	c.Caller = v.caller
	by := map[string]*cause{}
	for i := range all {
		r := &all[i]
		if r.group != failed {
			continue
		}
		c.Failed++
		f := r.GetFailure()
		g := by[r.cause]
		if g == nil {
			g = &cause{ID: r.cause, Name: f.GetName(), Partner: r.GetPartner(), Text: f.GetCause(), Query: filter{Group: failed, Cause: r.cause}.Query(), Caller: v.caller}
			if g.Where = "here"; f.GetSide() == "peer" {
				g.Where = "at the partner"
			}
			by[r.cause] = g
		}
		if g.Count++; g.Text != f.GetCause() {
			g.Text = textOf(r.Request)
		}
		if at := f.GetAt(); at != nil && at.AsTime().After(g.Last) {
			g.Last = at.AsTime()
		}
	}
	now := time.Now()
	for _, g := range by {
		g.LastAgo = ago(g.Last, now)
		c.Causes = append(c.Causes, *g)
	}
	slices.SortFunc(c.Causes, func(a, b cause) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), b.Last.Compare(a.Last), cmp.Compare(a.ID, b.ID))
	})
	return c, nil
}
