package top

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/dustin/go-humanize"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// What takes lines beside the requests: the node, the partners, the header, the state of who is
// chosen, the keys.
const frame = 5

// page is how many requests fit.
func (m *model) page() int { return max(m.height-frame, 1) }

func (m *model) View() tea.View {
	v := tea.NewView(strings.Join(m.lines(), "\n"))
	v.AltScreen = true
	return v
}

// lines are the screen: never more than its height, none wider than it. On one that is
// too low for all the requests stay longest.
func (m *model) lines() []string {
	m.longest = longestOf(m.rows)
	var all []string
	add := func(least int, text string) {
		if m.height >= least {
			all = append(all, m.cut(text))
		}
	}
	add(3, m.head())
	add(5, m.partners())
	add(4, header(m.widths()))
	room := max(m.height-len(all), 1)
	for _, least := range []int{2, 6} { // of the last lines
		if m.height >= least {
			room = max(room-1, 1)
		}
	}
	i := max(m.index(), 0)
	m.top = min(max(m.top, i-room+1), i)
	m.top = max(min(m.top, len(m.rows)-room), 0)
	for n := range room {
		text := ""
		if at := m.top + n; at < len(m.rows) {
			text = m.row(m.rows[at], at == i)
		}
		all = append(all, m.cut(text))
	}

	add(6, m.chosen())
	add(2, m.foot())
	return all
}

// cut is a line that fits.
func (m *model) cut(text string) string {
	return ansi.Truncate(strings.ReplaceAll(command.Printable(text), "\n", " "), max(m.width, 1), "…")
}

func (m *model) head() string {
	if m.failed != nil {
		return "pannier top  the node does not answer: " + fault.Plain(m.failed)
	}
	if m.shot.node == nil {
		return "pannier top  asking the node ..."
	}
	count, rate := map[adminpb.Request_State]int{}, 0.0
	for _, r := range m.shot.requests {
		count[r.GetState()]++
		rate += r.GetLive().GetRate()
	}
	text := fmt.Sprintf("%s  %d running  %d waiting  %d failed  %s/s", m.shot.node.GetName(), count[adminpb.Request_RUNNING],
		count[adminpb.Request_TOSUBMIT]+count[adminpb.Request_INTERRUPTED], count[adminpb.Request_INERROR], humanize.IBytes(uint64(rate)))
	if m.shot.more {
		text += "  (there are more)"
	}
	if m.shot.node.GetDraining() {
		text += "  DRAINING"
	}
	return text + "  " + m.shot.at.Format("15:04:05")
}

// partners are how they are doing, those that are down first.
func (m *model) partners() string {
	var down, up []string
	for _, p := range m.shot.partners {
		switch text := fmt.Sprintf("%s %d/%d", p.GetName(), p.GetRunning(), p.GetQueued()); {
		case p.GetFailure() != nil:
			down = append(down, text+" DOWN: "+p.GetFailure().GetName())
		case p.GetConnected():
			up = append(up, text)
		default:
			up = append(up, text+" idle")
		}
	}
	return "partners: " + cmp.Or(strings.Join(append(down, up...), "  "), "none")
}

// widths of the columns partner and file: what the others leave, and no more than their names
// need, so that the state has the rest.
func (m *model) widths() (partner, file int) {
	left := m.width - 2 - 9 - 2 - 10 - 5 - 12 - 12
	partner = min(max(left/4, 6), 20)
	file = max(min(left-partner-2, 60), 8)
	return min(partner, max(m.longest.partner, 7)), min(file, max(m.longest.file, 8)) // at least as their headers
}

// longest are the widest names of the columns partner and file.
type longest struct{ partner, file int }

func longestOf(rows []*adminpb.Request) (l longest) {
	for _, r := range rows {
		l.partner, l.file = max(l.partner, ansi.StringWidth(quoted(admin.Partner(r)))), max(l.file, ansi.StringWidth(quoted(ownName(r))))
	}
	return l
}

// ownName is the file's name at this end.
func ownName(r *adminpb.Request) string {
	if r.GetSide() == adminpb.Request_RECEIVER {
		return r.GetTarget()
	}
	return r.GetSource()
}

func header(partner, file int) string {
	return "  " + pad("ID", 9) + pad("", 2) + pad("PARTNER", partner+1) + pad("FILE", file+1) + left("SIZE", 9) + " " + left("DONE", 4) + " " + left("RATE", 11) + "  STATE"
}

func (m *model) row(r *adminpb.Request, chosen bool) string {
	partner, file := m.widths()
	mark, way := "  ", "→"
	if chosen {
		mark = "> "
	}
	if r.GetSide() == adminpb.Request_RECEIVER {
		way = "←"
	}
	rate := ""
	if v := r.GetLive().GetRate(); v > 0 {
		rate = humanize.IBytes(uint64(v)) + "/s"
	}
	size := "-"
	if r.GetSize() >= 0 {
		size = humanize.IBytes(uint64(r.GetSize()))
	}
	return mark + pad(short(r.GetId()), 9) + pad(way, 2) + pad(quoted(admin.Partner(r)), partner+1) + pad(quoted(ownName(r)), file+1) + left(size, 9) + " " +
		left(percent(r), 4) + " " + left(rate, 11) + "  " + m.state(r)
}

// state is what the request is at, or why it is not.
func (m *model) state(r *adminpb.Request) string {
	text := r.GetState().String()
	switch f := r.GetFailure(); {
	case r.GetLive().GetDoing() != "":
		text += " " + r.GetLive().GetDoing()
		if left := admin.Left(r.GetLive()); left > 0 {
			text += ", " + max(left, time.Second).Round(time.Second).String() + " left"
		}
		if limit := r.GetLive().GetLimit(); limit != "" {
			text += ", held by " + limit
		}
	case f != nil:
		text += " " + f.GetName() + ": " + f.GetCause()
	case r.GetReason() != "":
		text += " " + admin.Waits(r)
	}
	if due := r.GetDue(); due != nil && r.GetState() == adminpb.Request_INTERRUPTED && !admin.Paused(r) {
		if wait := due.AsTime().Sub(m.now()); wait > 0 {
			text += ", in " + wait.Round(time.Second).String()
		}
	}
	return text
}

// chosen is the state of who is chosen, which has the whole line here.
func (m *model) chosen() string {
	i := m.index()
	if i < 0 {
		return ""
	}
	return short(m.rows[i].GetId()) + ": " + m.state(m.rows[i])
}

func (m *model) foot() string {
	switch {
	case m.typing:
		return "filter: " + m.filter + "_  (enter: keep, esc: none)"
	case m.confirm != nil:
		return "cancel " + short(m.confirm.GetId()) + "? What has arrived is removed. y: yes, any other key: no"
	case m.said != "":
		return m.said
	}
	text := fmt.Sprintf("q quit  p pause  g resume  r retry  c cancel  / filter  s sort: %s", orders[m.sort].name)
	if m.filter != "" {
		text += "  [" + m.filter + "]"
	}
	return text
}

// percent is how much of the whole is safe; never 100 before all of it is.
func percent(r *adminpb.Request) string {
	durable, total := max(r.GetDurable(), r.GetLive().GetDurable()), max(r.GetSize(), r.GetLive().GetTotal())
	switch {
	case total < 0:
		return "-"
	case total == 0:
		return "0%"
	case durable >= total:
		return "100%"
	}
	return strconv.Itoa(min(int(float64(durable)/float64(total)*100), 99)) + "%"
}

// short is what people see of an id.
func short(id string) string { return id[:min(len(id), 8)] }

// quoted is a name that cannot be taken for something else.
func quoted(name string) string {
	if q := strconv.Quote(name); q[1:len(q)-1] != name || strings.TrimSpace(name) != name {
		return q
	}
	return name
}

// pad makes a text as wide as n, cut or filled behind; left fills before.
func pad(text string, n int) string {
	text = ansi.Truncate(text, n-1, "…")
	return text + strings.Repeat(" ", max(n-ansi.StringWidth(text), 0))
}

func left(text string, n int) string {
	text = ansi.Truncate(text, n, "…")
	return strings.Repeat(" ", max(n-ansi.StringWidth(text), 0)) + text
}
