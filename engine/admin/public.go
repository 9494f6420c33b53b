package admin

import (
	"context"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/adminpb"
)

// What tasks have printed may be a secret. It is for those who operate the node; who only reads gets
// requests without it. Every answer about a request is made here.

// whole reports whether the caller sees everything.
func whole(ctx context.Context) bool { return access.CallerOf(ctx).May(access.Operate) }

// shownRequest is a request as the caller may see it.
func shownRequest(ctx context.Context, s engine.Status) *adminpb.Request {
	if !whole(ctx) {
		s = s.Public()
	}
	return requestOf(&s)
}

// shownRecord is shownRequest of a record, or the error that came instead.
func shownRecord(ctx context.Context, r lifecycle.Record, err error) (*adminpb.Request, error) {
	if err != nil {
		return nil, err
	}
	return shownRequest(ctx, engine.Status{Record: r}), nil
}

func shownEvent(ctx context.Context, e store.Entry, side lifecycle.Side) *adminpb.Event {
	if !whole(ctx) {
		e = engine.PublicEntry(e)
	}
	return eventOf(&e, side)
}

func shownExplanation(ctx context.Context, e engine.Explanation) *adminpb.Explanation {
	if !whole(ctx) {
		e = e.Public()
	}
	return explanationOf(&e)
}

func shownSteps(ctx context.Context, x engine.Steps) *adminpb.Steps {
	if !whole(ctx) {
		x.Failure = x.Failure.Public()
	}
	return stepsOf(&x)
}

// shownFiles are files of a folder. Why one has failed is what its requests have failed of, whose ids
// are there.
func shownFiles(ctx context.Context, f *adminpb.Folder) *adminpb.Folder {
	if !whole(ctx) {
		for _, x := range f.GetFiles() {
			if x.GetState() == string(folder.Failed) && len(x.GetIds()) > 0 {
				x.Why = ""
			}
		}
	}
	return f
}
