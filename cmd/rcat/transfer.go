package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// transferFlags are the flags of get and put.
type transferFlags struct {
	connectFlags
	here    sideeffect.Descriptor // what the flags say of this end
	offset  int64                 // at the server; -1: not given
	cut     bool
	json    bool
	verbose bool
}

func (f *transferFlags) register(cmd *cobra.Command, offset string) {
	f.here.Quota, f.offset = sideeffect.NoQuota, -1
	f.connectFlags.register(cmd)
	flags := cmd.Flags()
	flags.Var(command.Size(&f.offset, 0), "offset", offset)
	flags.Var(command.Size(&f.here.Quota, 0), "quota", "fail if there are more bytes than this")
	flags.BoolVar(&f.cut, "cut", false, "move exactly --quota bytes instead of failing")
	flags.BoolVar(&f.here.Resume, "resume", false, "keep what has arrived when cut off, and continue from there next time")
	choose(cmd, &f.here.Hash, "hash", "compare a digest of the whole content, besides those of blocks", "none", "sha256", "sha512", "blake3")
	choose(cmd, &f.here.Road, "road", "inside the message, beside the call, or on a gRPC stream", "auto", "inline", "session", "stream")
	choose(cmd, &f.here.Compress, "compress", "compress blocks on the wire", "off", "auto", "zstd", "s2")
	flags.BoolVar(&f.json, "json", false, "one line of JSON about the transfer on stdout; on stderr when the content is on stdout")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "one line about the transfer on stderr")
}

// check completes the descriptor.
func (f *transferFlags) check() error {
	if f.cut && f.here.Quota < 0 {
		return usage("--cut is about --quota", "Give both, or none.")
	}
	if f.cut {
		f.here.OverQuota = sideeffect.Cut
	}
	return nil
}

func getCommand() *cobra.Command {
	var f transferFlags
	var file string
	cmd := &cobra.Command{
		Use:   "get HOST:PATH",
		Short: "Copy a file of a server to stdout or a file",
		Long:  "Copy a file of a server to stdout or a file.\n\n" + targetText,
		Example: `  # The first time: the server prints its key; of your own one on this machine it is yours
  rcat get --key "$(rcat key)" --trust localhost:notes.txt
  # What follows the first MiB of a log
  rcat get --offset 1MiB localhost:log
  # At most the first KiB
  rcat get --quota 1KiB --cut localhost:log
  # In steps, if need be
  rcat get --resume --hash sha256 -o copy.img localhost:disk.img`,
		Args: command.Arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.get(cmd, args[0], file) },
	}
	f.register(cmd, "begin at this byte of the server's file")
	cmd.Flags().StringVarP(&file, "output", "o", "", "write this file, in one step when all is there (default: stdout)")
	return cmd
}

func (f *transferFlags) get(cmd *cobra.Command, text, file string) error {
	if err := f.check(); err != nil {
		return err
	}
	report := cmd.OutOrStdout()
	if file == "" {
		if f.here.Resume {
			return usage("stdout cannot be resumed", "Name a file with -o.")
		}
		f.here.Local, report = sideeffect.Writer(report), cmd.ErrOrStderr()
	} else {
		root, name, err := split(file)
		if err != nil {
			return err
		}
		defer root.Close()
		f.here.Local = sideeffect.File(root, name)
	}
	return f.run(cmd, "get", text, report, func(ctx context.Context, l *link) error {
		return l.get(ctx, l.target.path.String(), max(0, f.offset), &f.here)
	})
}

// split opens the folder of a file.
func split(file string) (*os.Root, string, error) {
	dir, name := filepath.Split(file)
	if name == "" {
		return nil, "", usage("-o "+strconv.Quote(file)+" is a folder", "Add the name of the file.")
	}
	root, err := os.OpenRoot(filepath.Clean(dir))
	return root, name, fault.Wrap("open folder", dir, err)
}

func putCommand() *cobra.Command {
	var f transferFlags
	cmd := &cobra.Command{
		Use:   "put FILE HOST:PATH",
		Short: "Copy a file or stdin into a file of a server",
		Long: `Copy a file, or stdin if FILE is -, into a file of a server, which is replaced in
one step. The meter counts what the server has taken and checked; nothing has the
file's name, and the exit code is not 0, before all of it is on the server's disk.

` + targetText,
		Example: `  # A file
  rcat put --key "$(rcat key)" --trust notes.txt localhost:notes.txt
  # A pipe
  tar c docs | rcat put - localhost:docs.tar
  # In steps, if need be
  rcat put --resume disk.img localhost:disk.img
  # Into an existing file, in place
  rcat put --offset 512 header localhost:disk.img`,
		Args: command.Arguments(2),
		RunE: func(cmd *cobra.Command, args []string) error { return f.put(cmd, args[0], args[1]) },
	}
	f.register(cmd, "write at this byte of the server's existing file, in place")
	return cmd
}

func (f *transferFlags) put(cmd *cobra.Command, file, text string) error {
	err := f.check()
	switch {
	case err != nil:
		return err
	case f.here.Resume && file == "-":
		return usage("stdin cannot be resumed", "Name a file.")
	case f.here.Resume && f.offset >= 0:
		return usage("writing in place cannot be resumed", "Leave out --offset or --resume.")
	case file == "-":
		f.here.Local = sideeffect.Reader(interruptible(cmd.InOrStdin()), -1)
	default:
		open, err := os.Open(file)
		if err != nil {
			return fault.Wrap("open file", file, err)
		}
		defer open.Close()
		f.here.Local = sideeffect.FD(open)
	}
	var offset *int64
	if f.offset >= 0 {
		offset = &f.offset
	}
	return f.run(cmd, "put", text, cmd.OutOrStdout(), func(ctx context.Context, l *link) error {
		return l.put(ctx, l.target.path.String(), offset, &f.here)
	})
}

// run makes the call and tells how it went.
func (f *transferFlags) run(cmd *cobra.Command, verb, text string, out io.Writer, call func(context.Context, *link) error) error {
	l, err := f.connect(verb, text)
	if err != nil {
		return f.report(cmd, out, outcomeOf(cmd.Context(), verb, target{}, &f.here, err), err)
	}
	m := startMeter(cmd.ErrOrStderr(), time.Now)
	f.here.Progress = m.note
	err = call(cmd.Context(), l)
	err = l.conclude(m.newest.Load() != nil && f.here.Result.Road != sideeffect.RoadInline, err)
	m.close()
	err = f.suggest(verb, command.Code(cmd.Context(), err), err)
	return f.report(cmd, out, outcomeOf(cmd.Context(), verb, l.target, &f.here, err), err)
}

// suggest adds to the error of a call what its flags have to do with it.
func (f *transferFlags) suggest(verb string, code int, err error) error {
	kind := command.KindOf(err)
	switch quota := command.Size(&f.here.Quota, 0).String(); {
	case err == nil:
	case f.here.QuotaExceeded && verb == "put" && quota == "":
		return command.Suggest(err, "The server takes no more with one put; its owner raises that with: rcat serve --quota. Or send a part with --quota and --cut.")
	case f.here.QuotaExceeded && verb == "put":
		return command.Suggest(err, "Raise --quota, which is %s; with --cut only so much is sent. The server may take less, too: its owner raises that with rcat serve --quota.", quota)
	case f.here.QuotaExceeded:
		return command.Suggest(err, "Raise --quota, which is %s, or move only so much with --cut.", quota)
	case f.here.Road != sideeffect.RoadAuto && (kind == fault.Invalid || kind == fault.Unsupported):
		err = command.Suggest(err, "Without --road %v another one may do.", f.here.Road)
	}
	if err != nil && f.here.Resume && f.here.BytesTransferred > 0 && code != command.Corrupt {
		err = command.Suggest(err, "What has arrived is kept; the same command continues from there.")
	}
	return err
}

// usage is an error about flags that do not go together.
func usage(why, what string) error {
	return command.Suggest(fault.New("read flags", fault.Invalid, "%s", why), "%s", what)
}
