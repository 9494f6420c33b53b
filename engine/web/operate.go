package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// What operators say on the page.

const (
	mostWords = 5_000 // requests that one word may be said on
	atATime   = 8
	mostForm  = 4 << 20 // bytes
	named     = 5       // errors that are told by their request
	wordLimit = 2 * time.Minute
)

// words says one word on the requests of a form, or on all that a filter finds.
func (p *Page) words(v *visit) error {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, mostForm)
	if err := v.r.ParseForm(); err != nil {
		return fault.New("read form", fault.Invalid, "%w", err)
	}
	name := v.r.PostForm.Get("word")
	say, past := p.word(v, name)
	if say == nil {
		return fault.New("read form", fault.Invalid, "%.40q is no word: retry, pause, resume or cancel", name)
	}
	refs, left, err := p.meant(v, name)
	if err != nil {
		return err
	}
	ctx, stop := wordContext(v)
	defer stop()
	n := said(ctx, refs, say, past)
	if left > 0 {
		n.Text += fmt.Sprintf(" %d more match, which is too many for one word: say it again.", left)
	}
	p.stale()
	p.cfg.Log.Info("operator at the web page", "who", v.caller.Name, "word", name, "requests", len(refs), "outcome", n.Text)
	return v.answer(n)
}

// wordContext is that of what an operator has ordered.
func wordContext(v *visit) (context.Context, context.CancelFunc) {
	return context.WithTimeout(v.ctx(), wordLimit)
}

// answer tells what has become of a word: a part for htmx, else a page.
func (v *visit) answer(n notice) error {
	code := http.StatusOK
	if n.Bad {
		code = http.StatusConflict
	}
	if v.part() {
		v.show(http.StatusOK, "notice", n)
	} else {
		v.page(code, "answer", map[bool]string{false: "Done", true: "Not everything worked"}[n.Bad], "", n)
	}
	return nil
}

// word is what is called for a word, and how it is told of afterwards.
func (p *Page) word(v *visit, name string) (say func(context.Context, *adminpb.Ref) error, past string) {
	switch name {
	case "retry":
		return func(ctx context.Context, r *adminpb.Ref) error { _, err := p.cfg.Admin.Retry(ctx, r); return err }, "retried"
	case "pause":
		return func(ctx context.Context, r *adminpb.Ref) error { _, err := p.cfg.Admin.Pause(ctx, r); return err }, "paused"
	case "resume":
		return func(ctx context.Context, r *adminpb.Ref) error { _, err := p.cfg.Admin.Resume(ctx, r); return err }, "resumed"
	case "cancel":
		why := "cancelled on the web page"
		if v.caller.Name != "" {
			why += " by " + v.caller.Name
		}
		return func(ctx context.Context, r *adminpb.Ref) error {
			_, err := p.cfg.Admin.Cancel(ctx, &adminpb.CancelRequest{Ref: r, Why: why})
			return err
		}, "cancelled"
	}
	return nil, ""
}

// meant are the requests that a form names, or those of its filter that the word
// could do something about; left are those of them that are too many.
func (p *Page) meant(v *visit, word string) (refs []*adminpb.Ref, left int, err error) {
	if v.r.PostForm.Get("all") == "" {
		for _, text := range v.r.PostForm["id"] {
			ref, err := readRef(text)
			if err != nil {
				return nil, 0, err
			}
			refs = append(refs, ref)
		}
		if len(refs) == 0 {
			return nil, 0, fault.New("read form", fault.Invalid, "choose transfers first")
		}
		if len(refs) > p.most {
			return nil, 0, fault.New("read form", fault.TooLong, "%d transfers; at most %d at a time", len(refs), p.most)
		}
		return refs, 0, nil
	}
	p.stale()
	all, err := v.seen().board.look(v.ctx())
	if err != nil {
		return nil, 0, err
	}
	f := readFilter(v.r.PostForm)
	text := strings.Fields(strings.ToLower(f.Text))
	for i := range all {
		a := actionsOf(all[i].Request)
		can := map[string]bool{"retry": a.Retry, "pause": a.Pause, "resume": a.Resume, "cancel": a.Cancel}[word]
		switch {
		case !can || !f.matches(&all[i], text) || f.Group != "" && all[i].group != f.Group:
		case len(refs) < p.most:
			refs = append(refs, refOf(all[i].Request))
		default:
			left++
		}
	}
	if len(refs) == 0 {
		return nil, 0, fault.New("read form", fault.NotFound, "there is nothing any more that this could be done with")
	}
	return refs, left, nil
}

// said says a word on each, several at a time, and sums up.
func said(ctx context.Context, refs []*adminpb.Ref, say func(context.Context, *adminpb.Ref) error, past string) notice {
	var mu sync.Mutex
	var refused []string
	ok := 0
	var all sync.WaitGroup
	queue := make(chan *adminpb.Ref)
	for range min(atATime, len(refs)) {
		all.Go(func() {
			for ref := range queue {
				err := say(ctx, ref)
				mu.Lock()
				if err == nil {
					ok++
				} else {
					refused = append(refused, shortID(ref.GetId())+": "+fault.Plain(admin.FromStatus(err)))
				}
				mu.Unlock()
			}
		})
	}
	for _, ref := range refs {
		queue <- ref
	}
	close(queue)
	all.Wait()
	n := notice{Bad: len(refused) > 0, Text: count(ok, "transfer", "transfers") + " " + past + "."}
	if n.Bad {
		slices.Sort(refused)
		n.Text += fmt.Sprintf(" %d could not be:", len(refused))
		n.More = refused[:min(len(refused), named)]
		if len(refused) > named {
			n.More = append(n.More, fmt.Sprintf("and %d more", len(refused)-named))
		}
	}
	return n
}

// testPartner connects to a partner now.
func (p *Page) testPartner(v *visit) error {
	ctx, stop := wordContext(v)
	defer stop()
	name := v.r.PathValue("name")
	began := time.Now()
	x, err := p.cfg.Admin.TestPartner(ctx, &adminpb.TestPartnerRequest{Partner: name})
	p.cfg.Log.Info("operator at the web page", "who", v.caller.Name, "word", "test partner", "partner", name, "error", err)
	if err != nil {
		err = admin.FromStatus(err)
		if fault.KindOf(err) == fault.NotFound {
			return err
		}
		return v.answer(notice{Bad: true, Text: name + ": " + fault.Plain(err)})
	}
	text := fmt.Sprintf("%s answers, in %s.", name, lasted(time.Since(began)))
	return v.answer(notice{Text: text, More: x.GetFound()})
}
