package web

import (
	"net/http"
	"time"

	"github.com/pannier/pannier/spec/adminpb"
)

// listing is the page of transfers.
type listing struct {
	table
	Partners, Rules []string
	Graph           picture
}

// table is what a filter has found, as a page shows it.
type table struct {
	selection
	Rows   []row
	Print  string // of what the rows show: a stream that finds the same says nothing
	Caller Caller
}

// transfers is the list, by the filter in its address.
func (p *Page) transfers(v *visit) error {
	f := readFilter(v.r.URL.Query())
	t, err := p.find(v, f)
	if err != nil {
		return err
	}
	l := listing{table: t, Graph: p.graph.picture()}
	if path := "/transfers" + t.Query(); v.part() && !v.isAt(path) { // htmx takes the list out of the page
		v.w.Header().Set("HX-Push-Url", path) // once: or who goes back stays where they are
	}
	partners, err := p.cfg.Admin.ListPartners(v.ctx(), &adminpb.ListPartnersRequest{})
	if err != nil {
		return err
	}
	for _, x := range partners.GetPartners() {
		l.Partners = append(l.Partners, x.GetName())
	}
	rules, err := p.cfg.Admin.ListRules(v.ctx(), &adminpb.ListRulesRequest{})
	if err != nil {
		return err
	}
	for _, x := range rules.GetRules() {
		l.Rules = append(l.Rules, x.GetName())
	}
	v.page(http.StatusOK, "transfers", "Transfers", "transfers", l)
	return nil
}

// find is the table of a filter, its running rows as they are now.
func (p *Page) find(v *visit, f filter) (table, error) {
	all, err := v.seen().board.look(v.ctx())
	if err != nil {
		return table{}, err
	}
	t := table{selection: f.apply(all), Caller: v.caller}
	now := time.Now()
	for _, i := range t.items {
		r := i.Request
		if i.group == running { // what was read of it may be old
			if fresh, err := p.cfg.Admin.Get(v.ctx(), refOf(r)); err == nil {
				r = fresh
			} else if v.ctx().Err() != nil {
				return table{}, err
			}
		}
		t.Rows = append(t.Rows, rowOf(r, now))
	}
	t.Print = printOf(t.Rows)
	return t, nil
}

func refOf(r *adminpb.Request) *adminpb.Ref {
	return &adminpb.Ref{Id: r.GetId(), Requester: r.GetRequester(), Role: r.GetRole()}
}
