// Package top is a full-screen view of a node: what runs, what waits, what has failed, and
// keys for an operator's words. It asks the node once a second, and knows nothing else.
package top

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Limits of what is asked for.
const (
	mostActive = 1000 // requests that are not over; more are said to be there
	mostFailed = 200
	askEvery   = time.Second
	askTime    = 5 * time.Second
	mostFilter = 64 // characters
)

// Run shows the node until the operator leaves, or ctx ends.
func Run(ctx context.Context, client *admin.Client, options ...tea.ProgramOption) error {
	m := &model{client: client, ctx: ctx, width: 80, height: 24, now: time.Now}
	_, err := tea.NewProgram(m, append([]tea.ProgramOption{tea.WithContext(ctx)}, options...)...).Run()
	if err != nil && ctx.Err() == nil {
		return fault.New("show node", fault.IO, "the terminal: %w", err)
	}
	return nil
}

// model is what is shown. Update alone changes it.
type model struct {
	ctx    context.Context
	client *admin.Client
	now    func() time.Time

	width, height int
	shot          snapshot
	failed        error // of the last try to ask
	asking        bool

	rows    []*adminpb.Request // what is shown of the snapshot, in order
	at      string             // who is chosen
	top     int                // first row on the screen
	longest longest            // names of rows
	sort    int                // index in orders
	filter  string
	typing  bool             // the filter is typed
	confirm *adminpb.Request // who is about to be cancelled
	said    string           // what came of the last word
}

// snapshot is a node at one moment.
type snapshot struct {
	node     *adminpb.Node
	requests []*adminpb.Request
	partners []*adminpb.Partner
	more     bool // there are more requests than are asked for
	at       time.Time
}

// Messages.
type (
	asked struct {
		shot snapshot
		err  error
	}
	tick   struct{}
	worded struct{ text string }
)

// order is a way to sort.
type order struct {
	name    string
	compare func(a, b *adminpb.Request) int
}

var orders = []order{
	{"state", func(a, b *adminpb.Request) int { return cmp.Compare(rank(a), rank(b)) }},
	{"rate", func(a, b *adminpb.Request) int { return cmp.Compare(b.GetLive().GetRate(), a.GetLive().GetRate()) }},
	{"size", func(a, b *adminpb.Request) int { return cmp.Compare(b.GetSize(), a.GetSize()) }},
	{"partner", func(a, b *adminpb.Request) int { return strings.Compare(a.GetPartner(), b.GetPartner()) }},
	{"age", func(a, b *adminpb.Request) int { return a.GetRegistered().AsTime().Compare(b.GetRegistered().AsTime()) }},
}

// rank puts what runs before what has failed before what waits.
func rank(r *adminpb.Request) int {
	switch r.GetState() {
	case adminpb.Request_RUNNING:
		return 0
	case adminpb.Request_INERROR:
		return 1
	case adminpb.Request_INTERRUPTED:
		return 2
	}
	return 3
}

func (m *model) Init() tea.Cmd {
	m.asking = true
	return m.ask
}

// ask takes a snapshot.
func (m *model) ask() tea.Msg {
	ctx, cancel := context.WithTimeout(m.ctx, askTime)
	defer cancel()
	s := snapshot{at: m.now()}
	var err error
	if s.node, err = m.client.NodeInfo(ctx, &adminpb.NodeInfoRequest{}); err != nil {
		return asked{err: err}
	}
	partners, err := m.client.ListPartners(ctx, &adminpb.ListPartnersRequest{})
	if err != nil {
		return asked{err: err}
	}
	s.partners = partners.GetPartners()
	for _, q := range []*adminpb.ListRequest{
		{States: []adminpb.Request_State{adminpb.Request_RUNNING}, Limit: mostActive},
		{States: []adminpb.Request_State{adminpb.Request_TOSUBMIT, adminpb.Request_INTERRUPTED}, Limit: mostActive},
		{States: []adminpb.Request_State{adminpb.Request_INERROR}, Limit: mostFailed},
	} {
		n := 0
		stream, err := m.client.List(ctx, q)
		for err == nil {
			var r *adminpb.Request
			if r, err = stream.Recv(); err == nil {
				s.requests, n = append(s.requests, r), n+1
			}
		}
		if !errors.Is(err, io.EOF) {
			return asked{err: err}
		}
		s.more = s.more || n == int(q.GetLimit())
	}
	return asked{shot: s}
}

func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case asked:
		m.asking = false
		if m.failed = msg.err; msg.err == nil {
			m.shot = msg.shot
		}
		m.choose()
		return m, tea.Tick(askEvery, func(time.Time) tea.Msg { return tick{} })
	case tick:
		if !m.asking {
			m.asking = true
			return m, m.ask
		}
	case worded:
		m.said = msg.text
		if !m.asking {
			m.asking = true
			return m, m.ask
		}
	case tea.KeyPressMsg:
		return m, m.key(msg)
	}
	return m, nil
}

// choose makes the rows of the snapshot, and keeps who is chosen, or the place.
func (m *model) choose() {
	old := m.index()
	m.rows = m.rows[:0]
	for _, r := range m.shot.requests {
		if m.matches(r) {
			m.rows = append(m.rows, r)
		}
	}
	slices.SortStableFunc(m.rows, func(a, b *adminpb.Request) int {
		return cmp.Or(orders[m.sort].compare(a, b), strings.Compare(key(a), key(b)))
	})
	if m.index() < 0 {
		m.move(max(old, 0))
	}
}

func (m *model) matches(r *adminpb.Request) bool {
	text := strings.ToLower(strings.Join([]string{r.GetId(), r.GetPartner(), r.GetRule(), r.GetSource(), r.GetTarget(), r.GetState().String(), r.GetFailure().GetName()}, "\n"))
	for _, word := range strings.Fields(strings.ToLower(m.filter)) {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// key names a record: a request of the node to itself has two.
func key(r *adminpb.Request) string { return r.GetId() + r.GetRequester() + r.GetRole().String() }

// index is the row of who is chosen; -1: nobody is.
func (m *model) index() int {
	return slices.IndexFunc(m.rows, func(r *adminpb.Request) bool { return key(r) == m.at })
}

// move chooses a row, the nearest that there is.
func (m *model) move(to int) {
	if len(m.rows) == 0 {
		m.at = ""
		return
	}
	m.at = key(m.rows[min(max(to, 0), len(m.rows)-1)])
}

// key does what a key says.
func (m *model) key(k tea.KeyPressMsg) tea.Cmd {
	name := k.String()
	switch {
	case name == "ctrl+c":
		return tea.Quit
	case m.typing:
		m.typed(k)
		return nil
	case m.confirm != nil:
		r := m.confirm
		if m.confirm = nil; name == "y" {
			return m.word("cancel", r)
		}
		m.said = "not cancelled"
		return nil
	}
	m.said = ""
	switch name {
	case "q", "esc":
		return tea.Quit
	case "up", "k":
		m.move(m.index() - 1)
	case "down", "j":
		m.move(m.index() + 1)
	case "pgup":
		m.move(m.index() - m.page())
	case "pgdown", "space":
		m.move(m.index() + m.page())
	case "home":
		m.move(0)
	case "end":
		m.move(len(m.rows) - 1)
	case "/":
		m.typing = true
	case "s":
		m.sort = (m.sort + 1) % len(orders)
		m.choose()
	case "p", "g", "r", "c":
		return m.order(name)
	}
	return nil
}

// order is a word on who is chosen.
func (m *model) order(name string) tea.Cmd {
	i := m.index()
	if i < 0 {
		m.said = "nothing is chosen"
		return nil
	}
	if name == "c" {
		m.confirm = m.rows[i]
		return nil
	}
	return m.word(map[string]string{"p": "pause", "g": "resume", "r": "retry"}[name], m.rows[i])
}

// word says it to the node.
func (m *model) word(what string, r *adminpb.Request) tea.Cmd {
	ref := &adminpb.Ref{Id: r.GetId(), Requester: r.GetRequester(), Role: r.GetRole()}
	m.said = what + " " + short(r.GetId()) + " ..."
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(m.ctx, askTime)
		defer cancel()
		var now *adminpb.Request
		var err error
		switch what {
		case "pause":
			now, err = m.client.Pause(ctx, ref)
		case "resume":
			now, err = m.client.Resume(ctx, ref)
		case "retry":
			now, err = m.client.Retry(ctx, ref)
		case "cancel":
			now, err = m.client.Cancel(ctx, &adminpb.CancelRequest{Ref: ref, Why: "by an operator, in pannier top"})
		}
		if err != nil {
			return worded{fmt.Sprintf("%s %s: %s", what, short(r.GetId()), fault.Plain(err))}
		}
		return worded{fmt.Sprintf("%s %s: %s", what, short(r.GetId()), now.GetState())}
	}
}

// typed changes the filter.
func (m *model) typed(k tea.KeyPressMsg) {
	switch name := k.String(); {
	case name == "enter":
		m.typing = false
	case name == "esc":
		m.typing, m.filter = false, ""
	case name == "backspace":
		if all := []rune(m.filter); len(all) > 0 {
			m.filter = string(all[:len(all)-1])
		}
	case k.Key().Text != "" && len([]rune(m.filter)) < mostFilter:
		m.filter += k.Key().Text
	}
	m.choose()
}
