package packaging

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/web/webtest"
)

// walk is spec/firststeps.md: its blocks, and what it names on the page.
type walk struct {
	t      *testing.T
	blocks []block
	bold   []string // what is on the page, each once
	italic []string // what the task says
	hosts  map[string]*host
	keys   map[string]string // of the hosts
	last   map[string]string // line that a block has printed at a host
}

// block is what is typed in at a host, or at both, or a file of it.
type block struct {
	shell bool
	hosts []string
	name  string // of one that comes when somebody sees something; else a file, or empty
	text  string
}

func readWalk(t *testing.T) *walk {
	t.Helper()
	text, err := os.ReadFile("../../../spec/firststeps.md")
	if err != nil {
		t.Fatal(err)
	}
	w := &walk{t: t, hosts: map[string]*host{}, keys: map[string]string{}, last: map[string]string{}}
	fences := regexp.MustCompile("(?s)```(sh|toml)\n# (?:on )?(both hosts|hosta|hostb)(?:: (.*?))?\n(.*?)```\n")
	for _, m := range fences.FindAllStringSubmatch(string(text), -1) {
		hosts := []string{m[2]}
		if m[2] == "both hosts" {
			hosts = []string{"hosta", "hostb"}
		}
		w.blocks = append(w.blocks, block{m[1] == "sh", hosts, m[3], m[4]})
	}
	prose := fences.ReplaceAllString(string(text), "")
	if strings.Contains(prose, "```") {
		t.Fatal("there is a block that says for no host what it is")
	}
	w.bold = emphasised(prose, `\*\*([^*]+)\*\*`)
	w.italic = emphasised(regexp.MustCompile(`\*\*[^*]+\*\*`).ReplaceAllString(prose, ""), `\*([^*]+)\*`)
	return w
}

// emphasised are the words that an expression has in its group, each once.
func emphasised(text, expression string) (all []string) {
	for _, m := range regexp.MustCompile(expression).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(all, m[1]) {
			all = append(all, m[1])
		}
	}
	return all
}

// do types a block in. Where it has sha256:... is the key of the other host.
func (w *walk) do(b block) {
	w.t.Helper()
	for _, name := range b.hosts {
		h, other := w.hosts[name], map[string]string{"hosta": "hostb", "hostb": "hosta"}[name]
		text := strings.ReplaceAll(b.text, "sha256:...", w.keys[other])
		if !b.shell {
			h.write(b.name, text)
			continue
		}
		lines := strings.Split(strings.TrimSpace(h.run(text)), "\n")
		w.last[name] = lines[len(lines)-1]
		if strings.HasSuffix(strings.TrimSpace(b.text), "\npannier id") {
			w.keys[name] = w.last[name]
		}
	}
}

// TestFirstSteps is what an operator does who has the package and spec/firststeps.md: two systems
// of their own with systemd, a browser, a transfer, one that fails, a retry, a receipt.
func TestFirstSteps(t *testing.T) {
	if lacks := webtest.Missing(); lacks != "" {
		t.Skip(lacks)
	}
	w := readWalk(t)
	deb := builtDeb(t)
	for _, name := range []string{"hosta", "hostb"} {
		w.hosts[name] = newHost(t, name)
		w.hosts[name].copy(deb, "pannier_amd64.deb")
	}
	a, b := w.hosts["hosta"], w.hosts["hostb"]
	wire(a, b)
	var later []block
	for _, block := range w.blocks {
		if block.shell && block.name != "" {
			later = append(later, block)
			continue
		}
		w.do(block)
	}
	tokens := []string{w.last["hosta"], w.last["hostb"]}
	sandboxed(b)

	say, err := json.Marshal(map[string]any{"words": w.bold, "task": w.italic, "tokens": tokens})
	if err != nil {
		t.Fatal(err)
	}
	webtest.Visit{
		Script: "testdata/firststeps.mjs", Env: []string{"SAY=" + string(say)},
		Within: []string{"nsenter", "-t", a.init, "-n"}, Rules: "MAP hosta.example " + address(0) + ",MAP hostb.example " + address(1),
		Ask: func(what string) {
			if len(later) == 0 || later[0].name != what {
				t.Fatalf("the browser is at %q, the document at %+v", what, later)
			}
			w.do(later[0])
			later = later[1:]
		},
	}.Run(t)
	if len(later) != 1 {
		t.Fatalf("what was not done: %+v", later)
	}
	w.do(later[0])
	if !strings.Contains(w.last["hosta"], "december.txt is that file") {
		t.Errorf("the receipt: %s", w.last["hosta"])
	}
	forge(a, w.keys)
}

// forge has receipts refused that are not hostb's of that file.
func forge(h *host, keys map[string]string) {
	h.t.Helper()
	const verify = "pannier receipt verify "
	h.run("cd /srv/receipts && r=december.txt.receipt && sed 's/\"size\":[0-9]*/\"size\":9/' $r >sized && sed 's/\"hosta\"/\"hostc\"/' $r >renamed && sed 's/,/, /' $r >formatted && cp /srv/invoices/out/december.txt paid && echo >>paid")
	for _, forged := range []string{"sized", "renamed", "formatted"} {
		h.refused(verify+"/srv/receipts/"+forged+" --key "+keys["hostb"], "corrupt data")
	}
	h.refused(verify+"/srv/receipts/december.txt.receipt --key "+keys["hosta"], "not authenticated")
	h.refused(verify+"/srv/receipts/december.txt.receipt --key "+keys["hostb"]+" --file /srv/receipts/paid", "it is another file")
}

// sandboxed: the node, its tasks and its plugins are where the unit's settings put them.
func sandboxed(h *host) {
	h.t.Helper()
	pid := h.unit("MainPID")
	status := h.run("cat /proc/" + pid + "/status")
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"} {
		if !strings.Contains(status, want+"\n") {
			h.t.Errorf("the node is not %q:\n%s", want, status)
		}
	}
	// Root itself, in the mounts that the node has, can do nothing else.
	in := "nsenter -t " + pid + " -m "
	for _, dir := range []string{"/usr", "/etc/pannier", "/var", "/opt"} {
		h.refused(in+"touch "+dir+"/x", "Read-only file system")
	}
	h.refused(in+"ls /dev/full /dev/kmsg /dev/sda", "/dev/kmsg")
	if home := h.run(in + "sh -c 'ls -A /home /root | grep -v : || true'"); strings.TrimSpace(home) != "" {
		h.t.Errorf("it sees homes: %s", home)
	}
	h.run(in + "touch /srv/invoices/x /var/lib/pannier/x /tmp/x && rm /srv/invoices/x /var/lib/pannier/x && [ ! -e /tmp/x ]")
}
