package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/backup"
	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) backupCommand() *cobra.Command {
	var withKey bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write all that the node remembers to a file, while it works",
		Long: `Write all that the node remembers to a file, while it works: requests, what folders,
schedules and transfers to bridges have noted, applied objects, tokens (their digests),
the audit log. Files that were transferred, and the configuration, are not in it.
FILE must not exist; it appears when it is whole and on the disk. "-" is stdout.

With --with-key the node's keys are in it, too, so that another host can take its place:
who has the file can then be the node. Keep it as you keep a key, or encrypt it:
pannier backup --with-key - | age -r age1... >FILE

FILE is a zip archive with a manifest. pannier restore makes a node of it.`,
		Example: `  pannier backup /backup/pannier-$(date +%F).zip
  pannier restore --dry-run /backup/pannier-2026-01-02.zip`,
		Args: command.Arguments(1),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			s, err := client.Backup(ctx, &adminpb.BackupRequest{WithKey: withKey})
			if err != nil {
				return err
			}
			var n int64
			write := func(w io.Writer) error {
				return each(s, nil, func(b *adminpb.BackupChunk) error {
					n += int64(len(b.GetData()))
					_, err := w.Write(b.GetData())
					return fault.Wrap("write backup", args[0], err)
				})
			}
			if args[0] == "-" {
				err = write(cmd.OutOrStdout())
			} else {
				err = appear(args[0], write)
			}
			if err == nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s\n", humanize.IBytes(uint64(n)))
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&withKey, "with-key", false, "with the keys that the node proves itself and signs its records with")
	return cmd
}

// appear makes a file that nobody else may read and that is there only when it is
// whole. A name that is taken is fault.Exists.
func appear(name string, write func(io.Writer) error) (err error) {
	const op = "write backup"
	f, err := os.CreateTemp(filepath.Dir(name), ".pannier-backup-*")
	if err != nil {
		return fault.Wrap(op, name, err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fault.Wrap(op, name, err)
	}
	if err := os.Link(f.Name(), name); errors.Is(err, os.ErrExist) {
		return fault.New(op, fault.Exists, "%s is there; choose another name", name)
	} else if err != nil {
		return fault.Wrap(op, name, err)
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return fault.Wrap(op, name, err)
	}
	return fault.Wrap(op, name, errors.Join(dir.Sync(), dir.Close()))
}

func restoreCommand(path *string) *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup into the state directory of a node that does not run",
		Long: `Put a backup into the state directory of a node that does not run. The directory is
that of the configuration, and empty, but for the node's key: nothing is replaced. All
files are compared with their digests before the first one gets its place; when the
command is interrupted the node does not start before it was run again. "-" is stdin.

With --dry-run the backup is read and compared, and nothing is written. Run by root, it
writes as the owner of the directory.

A node that is restored knows nothing of what came after the backup. What was over at a
partner by then stays so there; a request that has gone on since ends INERROR here when
it calls again, because its partner knows a later attempt, and is to be looked at. What is still in a watched folder
and was sent since, is sent again.`,
		Example: `  pannier restore /backup/pannier-2026-01-02.zip
  age -d -i key.txt backup.age | pannier restore -`,
		Args: command.Arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return restore(*path, args[0], dry, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only read and compare it")
	return cmd
}

func restore(path, name string, dry bool, in io.Reader, out, messages io.Writer) error {
	f, size, err := seekable(name, in)
	if err != nil {
		return err
	}
	defer f.Close()
	a, err := backup.Open(f, size)
	if err != nil {
		return fault.Wrap("read backup", name, err)
	}
	var t fields
	t.add("node", a.Node)
	t.add("key", a.Key)
	t.add("version", a.Version)
	t.add("begun", a.Begun.UTC().Format(time.RFC3339))
	t.add("files", fmt.Sprintf("%d, %s", len(a.Files), humanize.IBytes(uint64(a.Bytes()))))
	if err := t.write(out); err != nil {
		return err
	}
	if dry {
		return a.Verify()
	}
	cfg, err := load(path)
	if err != nil {
		return err
	}
	if cfg.Node.Name != a.Node {
		return command.Suggest(fault.New("restore", fault.Invalid, "it is the backup of %q, and %s is the configuration of %q", a.Node, path, cfg.Node.Name),
			"Its partners know the node by its name: restore it with the configuration that it had")
	}
	if err := asOwner(cfg.Node.State); err != nil { // the backup is open
		return err
	}
	if err := a.Restore(cfg.Node.State); err != nil {
		return err
	}
	fmt.Fprintf(messages, "restored to %s\n", cfg.Node.State)
	if id, err := carrier.LoadIdentity(cfg.Node.State); errors.Is(err, fault.NotFound) {
		fmt.Fprintln(messages, "The key is not in it: the node makes a new one, which its partners have to be told (pannier id)")
	} else if err != nil {
		return err
	} else if id.Key() != a.Key {
		fmt.Fprintf(messages, "The key that is there is another one than the node had: its partners have to be told %s\n", id.Key())
	}
	return nil
}

// seekable is a file that can be read at any place, and its size; stdin becomes one for a while.
func seekable(name string, in io.Reader) (*os.File, int64, error) {
	const op = "read backup"
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, 0, fault.Wrap(op, name, err)
		}
		fi, err := f.Stat()
		if err == nil && !fi.Mode().IsRegular() {
			err = fault.New(op, fault.Invalid, "it is no file; write - for stdin")
		}
		if err != nil {
			return nil, 0, errors.Join(fault.Wrap(op, name, err), f.Close())
		}
		return f, fi.Size(), nil
	}
	f, err := os.CreateTemp("", "pannier-restore-*")
	if err != nil {
		return nil, 0, fault.Wrap(op, "stdin", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, 0, errors.Join(fault.Wrap(op, "stdin", err), f.Close())
	}
	n, err := io.Copy(f, in)
	if err != nil {
		return nil, 0, errors.Join(fault.Wrap(op, "stdin", err), f.Close())
	}
	return f, n, nil
}

func migrateCommand(path *string) *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the store of an older version to this one's format, without starting the node",
		Long: `Bring the store of an older version to this version's format, without starting the node.
serve does the same when it starts; this says before what there is to do, and how it went.
It wants the daemon to be stopped, and it is the new version's to run: an older one does not
know what is to come. The work is done on a copy, and the file as it was stays beside it, so that the older
version can go on with it. A store of a newer version is refused, and not touched. Run by
root, it works as the owner of the state directory.`,
		Example: `  pannier migrate --dry-run`,
		Args:    command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(*path)
			if err != nil {
				return err
			}
			if err := asOwner(cfg.Node.State); err != nil {
				return err
			}
			return migrate(node.StorePath(cfg.Node.State), dry, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what there is to do")
	return cmd
}

func migrate(store string, dry bool, out io.Writer) error {
	was, now, err := boltstore.Formats(store)
	if errors.Is(err, fault.Exists) {
		return command.Suggest(err, "A daemon has migrated it when it started, to the format of its own version. For another version stop it first.")
	}
	if err != nil {
		return err
	}
	say := func(format string, args ...any) error {
		_, err := fmt.Fprintf(out, format+"\n", args...)
		return fault.Wrap("write result", "", err)
	}
	switch {
	case was == 0:
		return say("there is no store at %s yet", store)
	case was == now:
		return say("%s has format %d, which is this version's: nothing is to do", store, was)
	case was < now && dry:
		return say("%s has format %d and would get format %d; the file as it was would be %[1]s.format-%[2]d", store, was, now)
	}
	s, err := boltstore.Open(boltstore.Config{Path: store})
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	return say("%s had format %d and has format %d; the file as it was is %[1]s.format-%[2]d", store, was, now)
}
