package web

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pannier/pannier/spec/adminpb"
)

// filter is which requests are looked at: what a page's address says.
type filter struct {
	Text, Partner, Rule, Way, Cause string
	Group                           group
	Page                            int // from 1
}

// perPage is how many rows a page has.
const perPage = 50

// readFilter takes what it does not know for nothing.
func readFilter(q url.Values) filter {
	f := filter{
		Text: strings.TrimSpace(q.Get("q")), Partner: q.Get("partner"), Rule: q.Get("rule"), Way: q.Get("way"), Cause: q.Get("cause"),
		Group: group(q.Get("state")), Page: 1,
	}
	if !slices.Contains(groups, f.Group) {
		f.Group = ""
	}
	if f.Way != "in" && f.Way != "out" {
		f.Way = ""
	}
	if n, err := strconv.Atoi(q.Get("page")); err == nil && n > 1 {
		f.Page = min(n, 1<<20)
	}
	return f
}

// Query is the filter as an address has it; empty without any.
func (f filter) Query() string {
	q := url.Values{}
	for name, value := range map[string]string{"q": f.Text, "partner": f.Partner, "rule": f.Rule, "way": f.Way, "cause": f.Cause, "state": string(f.Group)} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Page > 1 {
		q.Set("page", strconv.Itoa(f.Page))
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// In and On are the filter for another tab, and another page.
func (f filter) In(g group) filter  { f.Group, f.Page = g, 1; return f }
func (f filter) On(page int) filter { f.Page = page; return f }

// Before and After are the pages beside this one.
func (f filter) Before() int { return f.Page - 1 }
func (f filter) After() int  { return f.Page + 1 }

// Any reports whether it leaves anything out, the tab apart.
func (f filter) Any() bool {
	return f.Text != "" || f.Partner != "" || f.Rule != "" || f.Way != "" || f.Cause != ""
}

// selection is what a filter finds.
type selection struct {
	filter
	Tabs  []tab
	Total int
	Pages int
	items []item // of the page
}

// tab is a group, with how many are in it. Group "" is all.
type tab struct {
	Group group
	Count int
	Here  bool
	Query string
}

// Word is what a tab is called.
func (t tab) Word() string {
	if t.Group == "" {
		return "All"
	}
	return t.Group.Word()
}

// apply looks through all requests once.
func (f filter) apply(all []item) selection {
	s := selection{filter: f}
	counts := map[group]int{}
	everything := 0
	first, words := (f.Page-1)*perPage, strings.Fields(strings.ToLower(f.Text))
	for i := range all {
		if !f.matches(&all[i], words) {
			continue
		}
		counts[all[i].group]++
		everything++
		if f.Group != "" && all[i].group != f.Group {
			continue
		}
		if s.Total >= first && len(s.items) < perPage {
			s.items = append(s.items, all[i])
		}
		s.Total++
	}
	s.Pages = max((s.Total+perPage-1)/perPage, 1)
	s.Tabs = append(s.Tabs, tab{"", everything, f.Group == "", f.In("").Query()})
	for _, g := range groups {
		s.Tabs = append(s.Tabs, tab{g, counts[g], f.Group == g, f.In(g).Query()})
	}
	if s.Page > s.Pages { // there are fewer than when the link was made
		return f.On(s.Pages).apply(all)
	}
	return s
}

// mostSearched is how many words a search may have: each is looked for in each transfer. One with
// more finds nothing, rather than what it does not ask for: orders go to all that it finds.
const mostSearched = 16

// matches looks at all but the group. words are those of Text in small letters: each is to be found
// somewhere.
func (f *filter) matches(i *item, words []string) bool {
	switch {
	case len(words) > mostSearched:
		return false
	case f.Partner != "" && i.GetPartner() != f.Partner, f.Rule != "" && i.GetRule() != f.Rule, f.Cause != "" && i.cause != f.Cause:
		return false
	case f.Way == "in" && i.GetSide() != adminpb.Request_RECEIVER, f.Way == "out" && i.GetSide() != adminpb.Request_SENDER:
		return false
	}
	return !slices.ContainsFunc(words, func(word string) bool { return !i.has(word) })
}

// has reports whether a word is in what people look for.
func (i *item) has(word string) bool {
	return contains(i.GetSource(), word) || contains(i.GetTarget(), word) || strings.HasPrefix(i.GetId(), word) ||
		contains(i.GetInfo(), word) || contains(i.GetPartner(), word) || contains(i.GetFailure().GetCause(), word)
}

func contains(s, lower string) bool {
	return len(s) >= len(lower) && strings.Contains(strings.ToLower(s), lower)
}
