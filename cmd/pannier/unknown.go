package main

import (
	"context"
	"slices"
	"strings"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/fault"
)

// What there is, for those who have written a name that is not known.

// unknown adds to the error about something of that name which there are, if there is none of that
// name. kind is what lists them, as "folder".
func unknown(ctx context.Context, client *admin.Client, err error, kind, name string, list lister) error {
	if fault.KindOf(err) != fault.NotFound {
		return err
	}
	all, problem := list(ctx, client)
	if problem != nil {
		return err
	}
	for i := range all {
		all[i], _, _ = strings.Cut(all[i], "\t")
	}
	if slices.Contains(all, name) {
		return err
	}
	return command.Suggest(err, "%s", firstOf(kind, all))
}

// firstOf is the first of them, in words, and what lists all.
func firstOf(kind string, names []string) string {
	const most = 10
	text := command.Printable(strings.Join(names[:min(most, len(names))], ", "))
	switch {
	case len(names) == 0:
		text = "none"
	case len(names) > most:
		text += ", ..."
	}
	return strings.ToUpper(kind[:1]) + kind[1:] + "s: " + text + " (pannier " + kind + " list)"
}
