# boot.sh DIR CGROUP NAME [PROGRAM ARGUMENT...]: in namespaces of mounts, network, names and IPC of its
# own, a fresh host with what this one has installed: its files, with all changes in DIR's memory,
# processes and a cgroup of its own, and systemd, or PROGRAM, as the first of them. It does
# not get at this host's devices, kernel settings, modules and clock.
set -eu
dir=$1 group=$2 name=$3 r=$1/root
shift 3
if [ "${inside:-}" != yes ]; then
	mount -t tmpfs none "$dir"
	mkdir "$dir/cgroup" "$dir/upper" "$dir/work" "$r"
	mount -t cgroup2 none "$dir/cgroup"
	mkdir -p "$dir/cgroup/$group"
	echo $$ >"$dir/cgroup/$group/cgroup.procs"
	inside=yes exec unshare --cgroup --pid --fork --kill-child sh "$0" "$dir" "$group" "$name" "$@"
fi
umount "$dir/cgroup"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$r"
mount -t proc proc "$r/proc"
mount --bind "$r/proc/sys" "$r/proc/sys"
mount -o remount,bind,ro "$r/proc/sys"
mount -t sysfs -o ro sysfs "$r/sys"
mount -t cgroup2 cgroup2 "$r/sys/fs/cgroup"
for d in run dev srv root; do mount -t tmpfs -o mode=755 tmpfs "$r/$d"; done
for n in null zero full random urandom tty; do
	: >"$r/dev/$n"
	mount --bind "/dev/$n" "$r/dev/$n"
done
mkdir "$r/dev/shm" "$r/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$r/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$r/dev/pts"
ln -s pts/ptmx "$r/dev/ptmx"
ln -s /proc/self/fd "$r/dev/fd"
rm -rf "$r/etc/pannier" "$r/var/lib/pannier" "$r/etc/systemd/system"
mkdir "$r/etc/systemd/system"
: >"$r/etc/fstab"
: >"$r/var/lib/dpkg/triggers/File" # the index of man pages takes ten seconds
echo force-unsafe-io >"$r/etc/dpkg/dpkg.cfg.d/test"
echo "127.0.0.1 localhost" >"$r/etc/hosts"
echo "$name" >"$r/etc/hostname"
ip link set lo up
cd "$r"
mkdir .old
pivot_root . .old
umount -l .old
rmdir .old
[ $# -gt 0 ] || set -- /lib/systemd/systemd --system --unit=basic.target --show-status=no --log-target=journal
# It takes no orders from whoever has started it, and has no privileges over what it shares with this host.
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	setpriv --bounding-set=-sys_module,-sys_rawio,-sys_time,-syslog,-audit_control,-audit_read,-mknod,-wake_alarm "$@" </dev/null
