// Package disks makes file systems that fail as disks do: one whose power can be cut, and one that is soon
// full. It is for tests, and needs root.
package disks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// A Disk is a file system in a file, whose power can be cut: what it has not
// written to the file by then is lost, its journal included.
type Disk struct {
	kind string // ext4, xfs
	file *os.File
	At   string // where it is mounted
	loop *os.File
}

// mkfs is how file systems are made that cutting the power is tried on.
var mkfs = map[string][]string{
	"ext4": {"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"},
	"xfs":  {"mkfs.xfs", "-q", "-f", "-K"},
}

// mountOptions: nothing is written because of the time that has gone by.
var mountOptions = map[string]string{"ext4": "commit=1000"}

const size = 512 << 20 // mkfs.xfs makes nothing smaller than 300 MiB

// New makes and mounts a file system below dir, or in memory where there is
// room. Unsupported, without root, loop devices or the file system's tools.
func New(ctx context.Context, dir, kind string) (*Disk, error) {
	const op = "make file system"
	if os.Geteuid() != 0 {
		return nil, fault.New(op, fault.Unsupported, "cutting the power of a file system needs root")
	}
	argv := mkfs[kind]
	program, err := exec.LookPath(argv[0])
	if err != nil { // not in everybody's PATH
		if program, err = exec.LookPath("/usr/sbin/" + argv[0]); err != nil {
			return nil, fault.New(op, fault.Unsupported, "%s is not installed (packages e2fsprogs, xfsprogs)", argv[0])
		}
	}
	d := &Disk{kind: kind, At: filepath.Join(dir, kind)}
	if d.file, err = os.CreateTemp("/dev/shm", "disk"); err != nil {
		if d.file, err = os.CreateTemp(dir, "image"); err != nil {
			return nil, fault.Wrap(op, kind, err)
		}
	}
	name := d.file.Name()
	defer os.Remove(name) // the open file is enough
	err = errors.Join(d.file.Truncate(size), os.Mkdir(d.At, 0o755))
	if err == nil {
		out, runErr := exec.CommandContext(ctx, program, append(argv[1:len(argv):len(argv)], name)...).CombinedOutput()
		if err = runErr; err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err == nil {
		err = d.attach()
	}
	if err == nil {
		err = d.mount()
	}
	if err != nil {
		return nil, errors.Join(fault.Wrap(op, kind, err), d.Remove())
	}
	return d, nil
}

// attach makes a loop device of the file, which goes when it is closed.
func (d *Disk) attach() error {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return fault.New("make loop device", fault.Unsupported, "there are no loop devices: %v", err)
	}
	defer control.Close()
	for range 20 { // somebody else may be faster
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return fault.New("make loop device", fault.Unsupported, "there are no loop devices: %v", err)
		}
		if d.loop, err = os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0); err != nil {
			return err
		}
		config := unix.LoopConfig{Fd: uint32(d.file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(d.loop.Fd()), &config); err == nil {
			return nil
		}
		d.loop.Close()
		d.loop = nil
	}
	return fault.New("make loop device", fault.Unsupported, "none stays free")
}

func (d *Disk) mount() error {
	return fault.Wrap("mount", d.kind, unix.Mount(d.loop.Name(), d.At, d.kind, unix.MS_NOATIME, mountOptions[d.kind]))
}

// shutdown is EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN; noLogFlush is the flag of
// both by which the journal is not written either.
const (
	shutdown   = 0x8004587d
	noLogFlush = 2
)

// Cut cuts the power: nothing reaches the disk from now on. Who uses it is to be
// stopped before, or it hears of syncs that were none: see nodetest.Node.Freeze.
func (d *Disk) Cut() error {
	f, err := os.Open(d.At)
	if err != nil {
		return fault.Wrap("cut power", d.kind, err)
	}
	defer f.Close()
	return fault.Wrap("cut power", d.kind, unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush))
}

// Again mounts what is on the disk. Processes with files there have ended.
func (d *Disk) Again() error {
	if err := d.unmount(); err != nil {
		return err
	}
	return d.mount()
}

// unmount waits a little for those who still look at something.
func (d *Disk) unmount() (err error) {
	for range 200 {
		if err = unix.Unmount(d.At, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fault.Wrap("unmount", d.kind, err)
}

// Remove takes everything away.
func (d *Disk) Remove() error {
	if err := unix.Unmount(d.At, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fault.Wrap("unmount", d.kind, err)
	}
	if d.loop != nil {
		d.loop.Close()
	}
	return fault.Wrap("remove image", "", d.file.Close())
}

// Sync writes all of it to the disk.
func (d *Disk) Sync() error {
	f, err := os.Open(d.At)
	if err != nil {
		return fault.Wrap("sync", d.kind, err)
	}
	defer f.Close()
	return fault.Wrap("sync", d.kind, unix.Syncfs(int(f.Fd())))
}

// Small mounts a disk of so many bytes, and returns how to take it away.
func Small(at string, bytes int) (unmount func() error, err error) {
	if err := unix.Mount("small", at, "tmpfs", unix.MS_NOATIME, fmt.Sprintf("size=%d", bytes)); err != nil {
		return nil, fault.New("mount a small disk", fault.Unsupported, "it needs root: %v", err)
	}
	return func() error { return fault.Wrap("unmount", at, unix.Unmount(at, unix.MNT_DETACH)) }, nil
}
