package main

import (
	"context"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/nearest"
)

func (c *console) copyCommand() *cobra.Command { return c.ordering(c.copyOrder()) }

// copyOrder is the command without what it does, and what its arguments order.
func (c *console) copyOrder() (*cobra.Command, *orderFlags, orderer) {
	f := new(orderFlags)
	var by string
	var which choice
	cmd := &cobra.Command{
		Use:   "copy FROM:/FILE... TO:/PATH",
		Short: "Copy files from one partner to another",
		Long: `Copy files from one partner to another: both nodes, or both bridges. The daemon sees it
through, as with send.

Between two nodes, one of them makes a request to the other, and no bytes come here. Its
operator has to allow that: third_party of this node, there, lists rules. FILE and PATH
are names below the roots of that rule. The source is asked first, then the destination.
The request here says how the one there is, and has its verdict.

Where both are bridges that name each other in fxp, and their servers can, one server
sends to the other; otherwise the bytes come through this daemon.

With --wait it is said at the end which way the bytes went; later, "compared" of show
begins with "third-party" or "direct" if none came here. A PATH that ends in / keeps the
files' names.

A FILE that ends in / is a directory of a bridge: all files below it are copied, each by a
request of its own, to the same place below PATH, whose directories are made; empty ones
are not. Patterns are as in watch folders, of the path below the directory: one without a
slash is of the last element. An excluded directory is not looked into. What the
destination has is looked at before anything is copied; a rule with exists = "refuse"
holds, whatever comes there meanwhile.`,
		Example: `  # From one node to another, and see it through
  pannier copy hosta:/exports/movie.mov hostb:/in/ --wait
  # By the rule "mirror" of the destination
  pannier copy hosta:/exports/movie.mov hostb:/in/ --by hostb --rule mirror
  # From bridge to bridge, also between different protocols
  pannier copy ftp-a:/out/x.csv bucket:/2026/january.csv
  # A directory, and again tomorrow what is new or has changed
  pannier copy ftp-a:/out/ ftp-b:/in/ --include '*.csv' --exclude tmp --update
  # What is not there at all
  pannier copy ftp-a:/out/ ftp-b:/in/ --existing skip`,
		Args: command.AtLeast(2),
	}
	f.register(c, cmd, adminpb.Rule_SEND)
	flag := cmd.Flags().Lookup("rule")
	flag.Usage = "the rule to use, of the node that makes the request (default: the one that fits)"
	cmd.Flags().StringVar(&by, "by", "", "the `NODE`, of the two, that makes the request (default: whichever may)")
	complete(cmd, "by", partnerNames, c)
	which.register(cmd)
	cmd.ValidArgsFunction = c.completeArgs(partnerNames)
	return cmd, f, func(ctx context.Context, client *admin.Client, args []string) ([]*adminpb.SubmitRequest, error) {
		return f.copies(ctx, c, client, args, by, &which)
	}
}

// copies are the requests of copy.
func (f *orderFlags) copies(ctx context.Context, c *console, client *admin.Client, args []string, by string, which *choice) ([]*adminpb.SubmitRequest, error) {
	if err := which.check(); err != nil {
		return nil, err
	}
	files, dest := args[:len(args)-1], args[len(args)-1]
	to, at, err := atPartner(dest)
	if err != nil {
		return nil, err
	}
	folder := at == "" || strings.HasSuffix(at, "/")
	if len(files) > 1 && !folder {
		return nil, fault.New("read arguments", fault.Invalid, "%d files cannot all be %q: write a folder, with / at its end", len(files), dest)
	}
	partners, err := client.ListPartners(ctx, &adminpb.ListPartnersRequest{})
	if err != nil {
		return nil, err
	}
	bridges := map[string]bool{}
	for _, p := range partners.GetPartners() {
		bridges[p.GetName()] = p.GetBridge()
	}
	var orders []*adminpb.SubmitRequest
	for _, file := range files {
		from, name, err := atPartner(file)
		if err != nil {
			return nil, err
		}
		is, known := bridges[from]
		tree := name == "" || strings.HasSuffix(name, "/")
		switch {
		case !known:
			return nil, fault.New("read arguments", fault.NotFound, "no partner is called %q%s", from, nearest.MeantOf(from, bridges))
		case is && by != "":
			return nil, fault.New("read flags", fault.Invalid, "--by %s: %q is a bridge, and makes no requests", by, from)
		case tree && (!is || !bridges[to]):
			return nil, fault.New("read arguments", fault.Unsupported, "%.200q names no file: directories are copied between two bridges", file)
		case tree && !folder:
			return nil, fault.New("read arguments", fault.Invalid, "%.200q is a directory, and %.200q a file: write a folder, with / at its end", file, dest)
		case tree && from == to && within(at, name):
			return nil, fault.New("read arguments", fault.Invalid, "%.200q lies in %.200q, and would be copied into itself", dest, file)
		case !tree && which.given():
			return nil, fault.New("read flags", fault.Invalid, "--include, --exclude, --existing and --update are of directories: write BRIDGE:/PATH/, with / at its end")
		}
		targets := map[string]string{name: at}
		names := []string{name}
		switch {
		case tree:
			below, err := which.below(ctx, client, from, name, to, at)
			if err != nil {
				return nil, err
			}
			names = nil
			for _, n := range below {
				names = append(names, path.Join(name, n))
				targets[path.Join(name, n)] = path.Join(at, n)
			}
		case folder:
			targets[name] = path.Join(at, path.Base(name))
		}
		for _, n := range names {
			o, err := f.order(c)
			if err != nil {
				return nil, err
			}
			o.Partner, o.Rule, o.Source, o.Target = to, f.rule, n, targets[n]
			switch {
			case !is:
				o.CopyFrom, o.CopyBy = from, by
			case o.Rule == "":
				o.Rule = engine.CopyRule(from)
			}
			switch {
			case f.key != "" && (tree || len(files) > 1):
				o.Id = keyID(f.key, to, from, o.Rule, o.Source)
			case f.key != "":
				o.Id = keyID(f.key)
			}
			orders = append(orders, o)
		}
	}
	return orders, nil
}

// wayOf is the way that the bytes of a copy went; "" for what is no copy between others.
func wayOf(r *adminpb.Request) string {
	how, _, _ := strings.Cut(r.GetVerified(), "+")
	switch {
	case how == "direct":
		return ", directly from server to server"
	case how == "third-party":
		return ", directly from node to node"
	case strings.HasPrefix(r.GetRule(), engine.CopyRule("")):
		return ", through this node"
	}
	return ""
}

// within says whether a directory is another one, or lies in it.
func within(dir, other string) bool {
	dir, other = strings.Trim(dir, "/"), strings.Trim(other, "/")
	return other == "" || dir == other || strings.HasPrefix(dir, other+"/")
}

// atPartner reads "PARTNER:/NAME"; the name is without its first slash.
func atPartner(text string) (partner, name string, err error) {
	partner, name, err = target(text)
	if err == nil && !strings.HasPrefix(name, "/") {
		err = fault.New("read arguments", fault.Invalid, "%.200q is no file at a partner: write PARTNER:/NAME", text)
	}
	return partner, strings.TrimLeft(name, "/"), err
}
