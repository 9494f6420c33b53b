package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

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
	flags.Var(byteCount{&f.offset}, "offset", offset)
	flags.Var(byteCount{&f.here.Quota}, "quota", "fail if there are more bytes than this")
	flags.BoolVar(&f.cut, "cut", false, "move exactly --quota bytes instead of failing")
	flags.BoolVar(&f.here.Resume, "resume", false, "keep what has arrived when cut off, and continue from there next time")
	flags.Var(choice[sideeffect.Algorithm]{&f.here.Hash, []string{"none", "sha256", "sha512", "blake3"}}, "hash",
		"compare a digest of the whole content, besides those of blocks")
	flags.Var(choice[sideeffect.Road]{&f.here.Road, []string{"auto", "inline", "session", "stream"}}, "road",
		"inside the message, beside the call, or on a gRPC stream")
	flags.Var(choice[sideeffect.Compression]{&f.here.Compress, []string{"off", "auto", "zstd", "s2"}}, "compress", "compress blocks on the wire")
	flags.BoolVar(&f.json, "json", false, "one line of JSON about the transfer on stdout; on stderr when the content is on stdout")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "one line about the transfer on stderr")
}

// check completes the descriptor.
func (f *transferFlags) check() error {
	if f.cut && f.here.Quota < 0 {
		return fault.New("read flags", fault.Invalid, "--cut is about --quota: give both")
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
		Example: `  1. The first time:         rcat get --key sha256:... --trust example.org:notes.txt
  2. The last part of a log:  rcat get --offset 1GiB example.org:log
  3. At most the first KiB:   rcat get --quota 1KiB --cut example.org:log
  4. In steps, if need be:    rcat get --resume --hash sha256 -o disk.img example.org:disk.img`,
		Args: arguments(1),
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
			return fault.New("read flags", fault.Invalid, "stdout cannot be resumed: name a file with -o")
		}
		f.here.Local, report = sideeffect.Writer(stream{report}), cmd.ErrOrStderr()
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
	root, err := os.OpenRoot(filepath.Clean(dir))
	return root, name, fault.Wrap("open folder", dir, err)
}

func putCommand() *cobra.Command {
	var f transferFlags
	cmd := &cobra.Command{
		Use:   "put FILE HOST:PATH",
		Short: "Copy a file or stdin into a file of a server",
		Long:  "Copy a file, or stdin if FILE is -, into a file of a server, which is replaced in one step.\n\n" + targetText,
		Example: `  1. A file:                  rcat put notes.txt example.org:notes.txt
  2. A pipe:                  tar c docs | rcat put - example.org:docs.tar
  3. In steps, if need be:    rcat put --resume disk.img example.org:disk.img
  4. Into an existing file:   rcat put --offset 512 header example.org:disk.img`,
		Args: arguments(2),
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
		return fault.New("read flags", fault.Invalid, "stdin cannot be resumed: name a file")
	case f.here.Resume && f.offset >= 0:
		return fault.New("read flags", fault.Invalid, "writing in place cannot be resumed: leave out --offset or --resume")
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
	err = l.conclude(call(cmd.Context(), l))
	m.close()
	if err != nil && f.here.Resume && f.here.BytesTransferred > 0 && exitCode(cmd.Context(), err) != exitCorrupt {
		err = fault.New(verb, kindOf(err), "%w\n  What has arrived is kept; the same command continues from there.", err)
	}
	return f.report(cmd, out, outcomeOf(cmd.Context(), verb, l.target, &f.here, err), err)
}
