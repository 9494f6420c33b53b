package main

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

// completeWithin is how long a shell waits for the daemon's names; tests wait longer.
var completeWithin = 300 * time.Millisecond

// mostCompleted is how many names a shell is offered.
const mostCompleted = 200

// lister is names from the daemon; what follows a tab is for people.
type lister func(context.Context, *admin.Client) ([]string, error)

// names are those of list that begin with prefix and are not given yet. It asks the daemon. A shell that completes shows no errors, so there are none.
func (c *console) names(cmd *cobra.Command, list lister, given []string, prefix string) ([]string, cobra.ShellCompDirective) {
	const only = cobra.ShellCompDirectiveNoFileComp
	ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
	defer cancel()
	if command.FromEnvironment(cmd) != nil {
		return nil, only
	}
	var found []string
	_ = c.with(ctx, func(ctx context.Context, client *admin.Client) error {
		all, err := list(ctx, client)
		for _, n := range all {
			name, about, _ := strings.Cut(n, "\t")
			if strings.HasPrefix(name, prefix) && !slices.Contains(given, name) && len(found) < mostCompleted {
				found = append(found, command.Printable(name)+"\t"+command.Printable(about))
			}
		}
		return err
	})
	return found, only
}

// completeArgs completes each argument of a command with what list has.
func (c *console) completeArgs(list lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return c.names(cmd, list, args, prefix)
	}
}

// complete completes a flag with names from the daemon.
func complete(cmd *cobra.Command, flag string, list lister, c *console) {
	values(cmd, flag, func(cmd *cobra.Command, given []string, prefix string) []string {
		found, _ := c.names(cmd, list, given, prefix)
		return found
	})
}

// choices completes a flag that takes one of some words, or several of them.
func choices(cmd *cobra.Command, flag string, words ...string) {
	values(cmd, flag, func(_ *cobra.Command, given []string, prefix string) (found []string) {
		for _, w := range words {
			if strings.HasPrefix(w, prefix) && !slices.Contains(given, w) {
				found = append(found, w)
			}
		}
		return found
	})
}

// values completes a flag, and one that takes a list behind each comma. find has the
// words that are given already, and how the next one begins.
func values(cmd *cobra.Command, flag string, find func(cmd *cobra.Command, given []string, prefix string) []string) {
	list := cmd.Flag(flag).Value.Type() == "stringSlice"
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		before := ""
		if list {
			before = prefix[:strings.LastIndexByte(prefix, ',')+1]
		}
		found := find(cmd, strings.Split(before, ","), prefix[len(before):])
		for i := range found {
			found[i] = before + found[i]
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}) // fails only for unknown flags
}

// requestIDs are those of the requests that are not done, and of the last that are.
func requestIDs(ctx context.Context, client *admin.Client) ([]string, error) {
	return requestsIn()(ctx, client)
}

// requestsIn are the ids of the requests in one of these states, those that have changed last; all
// states, if there are none.
func requestsIn(states ...adminpb.Request_State) lister {
	return func(ctx context.Context, client *admin.Client) (names []string, err error) {
		s, err := client.List(ctx, &adminpb.ListRequest{States: states, Limit: mostCompleted})
		return names, each(s, err, func(r *adminpb.Request) error {
			names = append(names, r.GetId()+"\t"+ownName(r)+" "+r.GetPartner()+" "+r.GetState().String())
			return nil
		})
	}
}

func partnerNames(ctx context.Context, client *admin.Client) (names []string, err error) {
	reply, err := client.ListPartners(ctx, &adminpb.ListPartnersRequest{})
	for _, p := range reply.GetPartners() {
		names = append(names, p.GetName()+"\t"+p.GetAddress())
	}
	return names, err
}

// ruleNames are those of a direction, or all.
func ruleNames(d adminpb.Rule_Direction) lister {
	return func(ctx context.Context, client *admin.Client) (names []string, err error) {
		reply, err := client.ListRules(ctx, &adminpb.ListRulesRequest{})
		for _, r := range reply.GetRules() {
			if d == adminpb.Rule_DIRECTION_UNSPECIFIED || r.GetDirection() == d {
				names = append(names, r.GetName()+"\t"+strings.ToLower(r.GetDirection().String())+" "+r.GetRoot())
			}
		}
		return names, err
	}
}

// appliedNames are those of objects of a kind that were applied, and so can be deleted.
func appliedNames(kind string) lister {
	return func(ctx context.Context, client *admin.Client) (names []string, err error) {
		reply, err := client.ListObjects(ctx, &adminpb.ListObjectsRequest{Kind: kind})
		for _, o := range reply.GetObjects() {
			if o.GetOrigin() != "file" {
				names = append(names, o.GetName()+"\tapplied by "+o.GetBy())
			}
		}
		return names, err
	}
}

func tokenNames(ctx context.Context, client *admin.Client) (names []string, err error) {
	reply, err := client.ListTokens(ctx, &adminpb.ListTokensRequest{})
	for _, t := range reply.GetTokens() {
		names = append(names, t.GetName()+"\t"+strings.Join(t.GetScopes(), ", "))
	}
	return names, err
}

// takesFiles are words of a usage line that stand for files of this host, and fileFlags the flags
// whose values are files or directories of it.
var (
	takesFiles = regexp.MustCompile(`FILE|PATH|DIR|PROGRAM|COMMAND`)
	fileFlags  = []string{"file", "config", "token-file", "dir", "checkpoint", "credentials", "copy-credentials", "source", "identity"}
)

// noFiles has shells offer no files where a command or a flag takes none and completes nothing itself.
func noFiles(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		noFiles(sub)
	}
	if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 && !takesFiles.MatchString(cmd.Use) {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if _, completed := cmd.GetFlagCompletionFunc(f.Name); !completed && f.NoOptDefVal == "" && !slices.Contains(fileFlags, f.Name) {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions) // fails only for unknown flags
		}
	})
}

// fileOrPartner completes what send takes: files, then a partner, or a partner and a rule. Shells
// complete files themselves when nothing else fits.
func (c *console) fileOrPartner(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	list := lister(partnerNames)
	if partner, rule, colon := strings.Cut(prefix, ":"); colon {
		if strings.HasPrefix(rule, "/") { // a name there
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list = func(ctx context.Context, client *admin.Client) (names []string, err error) {
			rules, err := ruleNames(adminpb.Rule_SEND)(ctx, client)
			for _, r := range rules {
				names = append(names, partner+":"+r)
			}
			return names, err
		}
	}
	found, _ := c.names(cmd, list, nil, prefix)
	return found, cobra.ShellCompDirectiveDefault
}
