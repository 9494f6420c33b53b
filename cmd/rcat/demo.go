package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

const (
	noteSize    = 1 << 10 // bytes of the small file, which fits into a message
	leastLarge  = 4 << 20 // bytes of the large file
	demoAddress = "tls://127.0.0.1:0"
)

func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo [FILE]",
		Short: "Run client and server here and show what moves on which road",
		Long: `Run client and server in this process, over TLS on the loopback device and in a
temporary folder, and show what moves on which road. The large file is FILE, or this
program. The exit code is 0 only if every check held.`,
		Args: func(cmd *cobra.Command, args []string) error { return command.Arguments(min(len(args), 1))(cmd, args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			large, err := os.Executable()
			if len(args) > 0 {
				large, err = args[0], nil
			}
			if err != nil {
				return fault.Wrap("find program", "", err)
			}
			return runDemo(cmd, large)
		},
	}
}

func runDemo(cmd *cobra.Command, large string) error {
	d, err := newDemo(large)
	if err != nil {
		return err
	}
	defer d.close()
	fmt.Fprintf(cmd.OutOrStdout(), "Client and server in one process over %s, TLS 1.3, each pinning the other's key.\n", d.address)
	fmt.Fprintf(cmd.OutOrStdout(), "note is %s, large is %s: %s\n\n", humanize.IBytes(noteSize), humanize.IBytes(uint64(d.size)), large)
	err = d.run(cmd.Context())
	if err := cmp.Or(writeSteps(cmd.OutOrStdout(), d.steps), err); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "\nAll %d went as they should.\n", len(d.steps))
	return nil
}

// demo is a server and its client with a folder each.
type demo struct {
	dir         string
	here, there *os.Root // folders of client and server
	server      *rpc.Server
	served      chan error
	client      *client
	address     string
	large       *os.File
	size        int64 // of large
	steps       []step
}

func newDemo(large string) (d *demo, err error) {
	d = &demo{served: make(chan error, 1)}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if err := d.prepareFiles(large); err != nil {
		return d, fault.Wrap("prepare demo", large, err)
	}
	ours, err := carrier.NewIdentity()
	if err != nil {
		return d, err
	}
	theirs, err := carrier.NewIdentity()
	if err != nil {
		return d, err
	}
	d.server, err = newServer(&service{root: d.there, writable: true, quota: sideeffect.NoQuota},
		rpc.ServerConfig{Identity: theirs, Pins: carrier.Pins{ours.Key()}})
	if err != nil {
		return d, err
	}
	if d.address, err = d.server.Listen(demoAddress); err != nil {
		return d, err
	}
	go func() { d.served <- d.server.Serve() }()
	d.client, err = dial(d.address, rpc.ClientConfig{Identity: ours, Pins: carrier.Pins{theirs.Key()}})
	return d, err
}

// prepareFiles makes both folders and opens the large file.
func (d *demo) prepareFiles(large string) (err error) {
	if d.large, err = os.Open(large); err != nil {
		return err
	}
	info, err := d.large.Stat()
	if err != nil {
		return err
	}
	if d.size = info.Size(); d.size < leastLarge || !info.Mode().IsRegular() {
		return fault.New("prepare demo", fault.Invalid, "the large file has to be a regular one of at least %s", humanize.IBytes(leastLarge))
	}
	if d.dir, err = os.MkdirTemp("", "rcat-demo-"); err != nil {
		return err
	}
	for _, side := range []struct {
		name string
		root **os.Root
	}{{"client", &d.here}, {"server", &d.there}} {
		dir := filepath.Join(d.dir, side.name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if *side.root, err = os.OpenRoot(dir); err != nil {
			return err
		}
	}
	return d.here.WriteFile("note", bytes.Repeat([]byte("pannier\n"), noteSize/8), 0o600)
}

// close ends what newDemo has started; some of it may be missing.
func (d *demo) close() {
	if d.client != nil {
		_ = d.client.close()
	}
	if d.server != nil {
		d.server.Stop()
		if d.address != "" {
			<-d.served
		}
	}
	for _, root := range []*os.Root{d.here, d.there} {
		if root != nil {
			root.Close()
		}
	}
	if d.large != nil {
		d.large.Close()
	}
	if d.dir != "" {
		_ = os.RemoveAll(d.dir)
	}
}

// run makes the transfers in turn, to the first one whose check does not hold.
func (d *demo) run(ctx context.Context) error {
	for _, s := range d.script() {
		s.here.Hash = sideeffect.SHA256
		err := s.call(ctx, &s.here)
		s.problem = s.check(err, &s.here.Result)
		d.steps = append(d.steps, s)
		if s.problem != nil {
			return fault.Wrap("check", s.name, s.problem)
		}
	}
	return nil
}
