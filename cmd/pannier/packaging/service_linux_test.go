package packaging

import (
	"strings"
	"testing"
)

// TestService: the unit on a system with systemd, as spec/packaging.md promises it: a bad
// configuration makes a reload fail and changes nothing; an upgrade restarts a node, unless the
// new version does not take its configuration; one that was killed comes back; what root has
// restored is the node's; who removes the package ends it.
func TestService(t *testing.T) {
	deb := builtDeb(t)
	h := newHost(t, "hosta")
	h.copy(deb, "pannier_amd64.deb")
	h.run("dpkg -i pannier_amd64.deb && cp -p /etc/pannier/pannier.toml good")
	h.refused("systemctl is-active pannier", "inactive")
	h.run("pannier id >key && systemctl enable --now pannier")

	first := h.unit("MainPID")
	running := func(what string, same bool) {
		t.Helper()
		if pid := h.unit("MainPID"); h.unit("ActiveState") != "active" || pid == "0" || (pid == first) != same {
			t.Fatalf("%s: %s, process %s, was %s", what, h.unit("ActiveState"), pid, first)
		}
		if out := h.run("pannier status"); !strings.Contains(out, "running") {
			t.Errorf("%s: %s", what, out)
		}
		first = h.unit("MainPID")
	}
	h.run("systemctl reload pannier")
	h.run("echo nonsense = 1 >>/etc/pannier/pannier.toml")
	h.refused("systemctl reload pannier", "failed")
	running("a bad reload", true)
	if out := h.run("dpkg -i pannier_amd64.deb"); !strings.Contains(out, "still the old version") {
		t.Errorf("an upgrade with a bad configuration says\n%s", out)
	}
	running("an upgrade with a bad configuration", true)
	h.run("cp good /etc/pannier/pannier.toml && dpkg -i pannier_amd64.deb")
	running("an upgrade", false)

	h.run("kill -KILL " + first)
	await(t, "node that comes back", func() bool { return h.unit("NRestarts") == "1" && h.unit("ActiveState") == "active" })
	running("a kill", false)

	h.run("pannier backup saved.zip && systemctl stop pannier && cp -p /var/lib/pannier/identity.pem . && rm -r /var/lib/pannier/* && cp -p identity.pem /var/lib/pannier/ && pannier restore saved.zip && systemctl start pannier")
	running("a restore", false)
	if out := h.run("pannier id | cmp - key && stat -c %U /var/lib/pannier/*"); strings.Trim(out, "panier\n") != "" {
		t.Errorf("its files belong to\n%s", out)
	}

	h.run("dpkg -r pannier")
	h.refused("systemctl is-active pannier", "inactive")
	h.refused("pgrep -x pannier", "")
	h.run("[ -e /etc/pannier/pannier.toml ] && [ -e /var/lib/pannier/identity.pem ]")
}
