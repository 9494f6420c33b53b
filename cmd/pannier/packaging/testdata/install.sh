# install.sh DIR DEB: in namespaces of its own, the deb on a system of its own: what this
# host has, with all changes in DIR's memory.
dir=$1 deb=$2
mount -t tmpfs none "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$dir/root" || { echo "no system of its own"; exit 1; }
cp "$deb" "$dir/root/root/pannier.deb"
mount -t proc proc "$dir/root/proc"
mount --rbind /dev "$dir/root/dev"
mkdir -p "$dir/root/run" && mount -t tmpfs none "$dir/root/run"
ip link set lo up 2>/dev/null || true
exec chroot "$dir/root" sh -eu -c '
export DEBIAN_FRONTEND=noninteractive
rm -rf /etc/pannier /var/lib/pannier
dpkg -i /root/pannier.deb >/root/said
grep "edit /etc/pannier/pannier.toml" /root/said
[ "$(stat -c "%U:%G %a" /etc/pannier/pannier.toml)" = "root:pannier 640" ]
[ "$(stat -c "%U:%G %a" /var/lib/pannier)" = "pannier:pannier 700" ]
[ -x /usr/bin/pannier ] && [ -e /lib/systemd/system/pannier.service ] && [ -e /usr/share/man/man1/pannier-send.1.gz ] && [ -e /usr/share/man/man5/pannier.toml.5.gz ]
grep -q pannier /usr/share/bash-completion/completions/pannier
pannier version | grep -q "^pannier 0~[0-9]*\.[0-9a-f]* "
pannier config check

serve() {
	runuser -u pannier -- pannier serve 2>/root/log &
	i=0
	while ! pannier status >/root/status 2>&1; do
		i=$((i + 1))
		[ $i -lt 600 ] || { cat /root/log /root/status; exit 1; }
		sleep 0.1
	done
}
serve
grep "^state	running" /root/status
[ "$(stat -c %U /var/lib/pannier/store.db)" = pannier ]
pannier reload
pkill -TERM -u pannier -x pannier
while pgrep -u pannier -x pannier >/dev/null; do sleep 0.1; done

echo "# mine" >>/etc/pannier/pannier.toml
key=$(pannier id)
dpkg -i /root/pannier.deb >/root/said
! grep "edit /etc" /root/said
[ "$(tail -1 /etc/pannier/pannier.toml)" = "# mine" ]
serve
pkill -TERM -u pannier -x pannier
[ "$(pannier id)" = "$key" ]

dpkg -r pannier >/root/said
[ ! -e /usr/bin/pannier ] && [ -e /etc/pannier/pannier.toml ]
dpkg -P pannier >/root/said 2>&1
grep "/var/lib/pannier stays" /root/said
[ ! -e /etc/pannier ] && [ -e /var/lib/pannier/identity.pem ]
echo installed, run, upgraded, removed
'
