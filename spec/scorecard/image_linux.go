package main

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

// image is a file system in a file, whose power can be cut: what it has not
// written to the file by then is lost, its journal included.
type image struct {
	kind string // ext4, xfs
	file *os.File
	at   string // where it is mounted
	loop *os.File
}

// mkfs is how file systems are made that cutting the power is tried on.
var mkfs = map[string][]string{
	"ext4": {"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"},
	"xfs":  {"mkfs.xfs", "-q", "-f", "-K"},
}

// mountOptions: nothing is written because of the time that has gone by.
var mountOptions = map[string]string{"ext4": "commit=1000"}

const imageSize = 512 * mib // mkfs.xfs makes nothing smaller than 300 MiB

// newImage makes and mounts a file system below dir, or in memory where there is
// room. Unsupported, without root, loop devices or the file system's tools.
func newImage(ctx context.Context, dir, kind string) (*image, error) {
	const op = "make file system"
	if os.Geteuid() != 0 {
		return nil, fault.New(op, fault.Unsupported, "cutting the power of a file system needs root")
	}
	argv := mkfs[kind]
	if _, err := exec.LookPath(argv[0]); err != nil {
		return nil, fault.New(op, fault.Unsupported, "%s is not installed (packages e2fsprogs, xfsprogs)", argv[0])
	}
	i := &image{kind: kind, at: filepath.Join(dir, kind)}
	var err error
	if i.file, err = os.CreateTemp("/dev/shm", "scorecard"); err != nil {
		if i.file, err = os.CreateTemp(dir, "image"); err != nil {
			return nil, fault.Wrap(op, kind, err)
		}
	}
	name := i.file.Name()
	defer os.Remove(name) // the open file is enough
	err = errors.Join(i.file.Truncate(imageSize), os.Mkdir(i.at, 0o755))
	if err == nil {
		out, runErr := exec.CommandContext(ctx, argv[0], append(argv[1:len(argv):len(argv)], name)...).CombinedOutput()
		if err = runErr; err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err == nil {
		err = i.attach()
	}
	if err == nil {
		err = i.mount()
	}
	if err != nil {
		return nil, errors.Join(fault.Wrap(op, kind, err), i.remove())
	}
	return i, nil
}

// attach makes a loop device of the file, which goes when it is closed.
func (i *image) attach() error {
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
		if i.loop, err = os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0); err != nil {
			return err
		}
		config := unix.LoopConfig{Fd: uint32(i.file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(i.loop.Fd()), &config); err == nil {
			return nil
		}
		i.loop.Close()
		i.loop = nil
	}
	return fault.New("make loop device", fault.Unsupported, "none stays free")
}

func (i *image) mount() error {
	return fault.Wrap("mount", i.kind, unix.Mount(i.loop.Name(), i.at, i.kind, unix.MS_NOATIME, mountOptions[i.kind]))
}

// shutdown is EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN; noLogFlush is the flag of
// both by which the journal is not written either.
const (
	shutdown   = 0x8004587d
	noLogFlush = 2
)

// cut cuts the power: nothing reaches the disk from now on.
func (i *image) cut() error {
	f, err := os.Open(i.at)
	if err != nil {
		return fault.Wrap("cut power", i.kind, err)
	}
	defer f.Close()
	return fault.Wrap("cut power", i.kind, unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush))
}

// again mounts what is on the disk. Processes with files there have ended.
func (i *image) again() error {
	if err := i.unmount(); err != nil {
		return err
	}
	return i.mount()
}

// unmount waits a little for those who still look at something.
func (i *image) unmount() (err error) {
	for range 200 {
		if err = unix.Unmount(i.at, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fault.Wrap("unmount", i.kind, err)
}

// remove takes everything away.
func (i *image) remove() error {
	if err := unix.Unmount(i.at, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fault.Wrap("unmount", i.kind, err)
	}
	if i.loop != nil {
		i.loop.Close()
	}
	return fault.Wrap("remove image", "", i.file.Close())
}

// sync writes all of it to the disk.
func (i *image) sync() error {
	f, err := os.Open(i.at)
	if err != nil {
		return fault.Wrap("sync", i.kind, err)
	}
	defer f.Close()
	return fault.Wrap("sync", i.kind, unix.Syncfs(int(f.Fd())))
}

// smallMount mounts a disk of smallDisk bytes, and returns how to take it away.
func smallMount(at string) (unmount func() error, err error) {
	if err := unix.Mount("scorecard", at, "tmpfs", unix.MS_NOATIME, fmt.Sprintf("size=%d", smallDisk)); err != nil {
		return nil, fault.New("mount a small disk", fault.Unsupported, "it needs root: %v", err)
	}
	return func() error { return fault.Wrap("unmount", at, unix.Unmount(at, unix.MNT_DETACH)) }, nil
}
