package packaging

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pannier/pannier/engine/config"
)

// needs skips where a program is missing; .ci/test says which may be.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("no %s", p)
		}
	}
}

func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// packaged makes the deb of the present commit in a clone of its own below dir, and returns where.
func packaged(t *testing.T, dir string) string {
	t.Helper()
	root := strings.TrimSpace(run(t, ".", "git", "rev-parse", "--show-toplevel"))
	run(t, dir, "git", "-c", "safe.directory=*", "clone", "-q", root, "src")
	run(t, filepath.Join(dir, "src"), ".ci/package", filepath.Join(dir, "out"))
	return filepath.Join(dir, "out")
}

// built is where the deb is that the tests have in common.
var built struct {
	sync.Mutex
	dir string
}

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(built.dir)
	os.Exit(code)
}

// builtDeb is the deb of the present commit, made once for all tests.
func builtDeb(t *testing.T) string {
	t.Helper()
	needs(t, "git", "gzip")
	if dir := os.Getenv("PANNIER_NFPM"); dir != "" {
		needs(t, filepath.Join(dir, "nfpm"))
	}
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "pannier-deb-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir = dir
		packaged(t, dir)
	}
	found, err := filepath.Glob(filepath.Join(built.dir, "out", "pannier_*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%q, %v", found, err)
	}
	return found[0]
}

func digest(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// TestPackage: the same commit gives the same bytes in two places; and, on a system of its own, the
// deb is installed, the node runs as it comes, an edited file survives an upgrade, and what the
// node remembers survives a purge.
func TestPackage(t *testing.T) {
	deb := builtDeb(t)
	other := packaged(t, t.TempDir())
	for _, one := range []string{filepath.Join(filepath.Dir(deb), "pannier"), deb} {
		if a, b := digest(t, one), digest(t, filepath.Join(other, filepath.Base(one))); a != b {
			t.Errorf("%s is %s in one place and %s in another", filepath.Base(one), a, b)
		}
	}
	t.Run("documents", func(t *testing.T) {
		texts, err := filepath.Glob(filepath.Join(other, "doc", "*.md"))
		if err != nil || len(texts) < 10 {
			t.Fatal(texts, err)
		}
		for _, at := range texts {
			text, err := os.ReadFile(at)
			if err != nil {
				t.Fatal(err)
			}
			for _, link := range link.FindAllStringSubmatch(string(text), -1) {
				if _, err := os.Stat(filepath.Join(other, "doc", link[1])); err != nil {
					t.Errorf("%s leads to %s, which is not there", filepath.Base(at), link[1])
				}
			}
		}
	})
	t.Run("installed", func(t *testing.T) {
		needs(t, "dpkg", "unshare", "runuser", "chroot")
		if os.Getuid() != 0 {
			t.Skip("not root")
		}
		cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--pid", "--fork", "--net", "--kill-child", "--propagation", "private", "sh", "-eu", "testdata/install.sh", t.TempDir(), deb)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			if strings.Contains(out.String(), "no system of its own") {
				t.Skip("no system of its own")
			}
			t.Fatalf("%v\n%s", err, &out)
		}
	})
	t.Run("lintian", func(t *testing.T) {
		needs(t, "lintian")
		out, _ := exec.CommandContext(t.Context(), "lintian", "--allow-root", "--fail-on", "none", deb).Output()
		for line := range strings.Lines(string(out)) {
			tag := strings.Fields(line)
			if len(tag) > 2 && tag[0] == "E:" && !knownTags[tag[2]] {
				t.Error(line)
			}
		}
	})
}

// link is one to a file.
var link = regexp.MustCompile(`\]\(([^)#:]+)[)#]`)

// knownTags are what lintian calls errors and we do not.
var knownTags = map[string]bool{
	"statically-linked-binary": true, // it is meant to be
	"no-changelog":             true, // the history is git's
	"bogus-mail-host":          true, // there is no address to give
}

// TestUnit: the unit is one, and its sandbox is as tight as it was.
func TestUnit(t *testing.T) {
	needs(t, "systemd-analyze")
	const unit = "pannier.service"
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	// The program is not installed here, so that another one stands for it.
	copied := filepath.Join(t.TempDir(), unit)
	text = bytes.ReplaceAll(text, []byte("/usr/bin/pannier"), []byte("/bin/true"))
	text = regexp.MustCompile(`(?m)^Documentation=.*\n`).ReplaceAll(text, nil)
	if err := os.WriteFile(copied, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, ".", "systemd-analyze", "verify", copied); strings.Contains(out, unit) {
		t.Error(out)
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--threshold=20", copied).CombinedOutput()
	if err != nil {
		t.Errorf("more than 2.0 of 10 is exposed: %v\n%s", err, out)
	}
}

// TestConfigurations: what is shipped as configuration is one.
func TestConfigurations(t *testing.T) {
	text, err := os.ReadFile("pannier.toml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Parse("pannier.toml", text); err != nil {
		t.Error(err)
	}
	// With the signs before its examples taken away it is one, too, but for the key.
	all := regexp.MustCompile(`(?m)^# (\[|\w+ +=)`).ReplaceAll(text, []byte("$1"))
	all = bytes.ReplaceAll(all, []byte(`"sha256:..."`), []byte(`"sha256:`+strings.Repeat("0f", 32)+`"`))
	cfg, err := config.Parse("pannier.toml", all)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Book.Partners) != 1 || len(cfg.Book.Rules) != 1 {
		t.Errorf("%d partners, %d rules", len(cfg.Book.Partners), len(cfg.Book.Rules))
	}
}

// sidecar is what is read of kubernetes.yaml, strictly: a misspelled key of a container is an error.
type (
	sidecar struct {
		APIVersion string                `yaml:"apiVersion"`
		Kind       string                `yaml:"kind"`
		Metadata   struct{ Name string } `yaml:"metadata"`
		Data       map[string]string
		Spec       struct {
			ServiceName string `yaml:"serviceName"`
			ClusterIP   string `yaml:"clusterIP"`
			NotReady    bool   `yaml:"publishNotReadyAddresses"`
			Ports       []struct {
				Name string
				Port int
			}
			Replicas int
			Selector map[string]any
			Template struct {
				Metadata map[string]any
				Spec     struct {
					Grace           int            `yaml:"terminationGracePeriodSeconds"`
					SecurityContext map[string]any `yaml:"securityContext"`
					InitContainers  []container    `yaml:"initContainers"`
					Containers      []container
					Volumes         []map[string]any
				}
			}
			Claims []struct {
				Metadata struct{ Name string }
				Spec     map[string]any
			} `yaml:"volumeClaimTemplates"`
		}
	}
	container struct {
		Name          string
		Image         string
		RestartPolicy string `yaml:"restartPolicy"`
		Args          []string
		Ports         []struct {
			Name string
			Port int `yaml:"containerPort"`
		}
		Startup         probe `yaml:"startupProbe"`
		Readiness       probe `yaml:"readinessProbe"`
		Liveness        probe `yaml:"livenessProbe"`
		Resources       map[string]any
		SecurityContext map[string]any `yaml:"securityContext"`
		Mounts          []mount        `yaml:"volumeMounts"`
	}
	mount struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		SubPath   string `yaml:"subPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	}
	probe struct {
		Get struct {
			Path, Port, Scheme string
		} `yaml:"httpGet"`
		Period    int `yaml:"periodSeconds"`
		Threshold int `yaml:"failureThreshold"`
	}
)

func TestKubernetes(t *testing.T) {
	f, err := os.Open("kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	kinds := map[string]sidecar{}
	for {
		var s sidecar
		if err := d.Decode(&s); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		kinds[s.Kind] = s
	}
	cfg, err := config.Parse("pannier.toml", []byte(kinds["ConfigMap"].Data["pannier.toml"]))
	if err != nil {
		t.Fatal(err)
	}
	pod := kinds["StatefulSet"].Spec.Template.Spec
	if len(pod.InitContainers) != 1 || pod.InitContainers[0].RestartPolicy != "Always" {
		t.Fatal("it is no sidecar")
	}
	c := pod.InitContainers[0]
	if drain := cfg.Node.Drain.Seconds(); float64(pod.Grace) <= drain {
		t.Errorf("the pod ends after %d s, the node may take %v", pod.Grace, drain)
	}
	claims := map[string]bool{}
	for _, claim := range kinds["StatefulSet"].Spec.Claims {
		claims[claim.Metadata.Name] = true
	}
	// The state is below a volume and not one, because the volume's group may write the volume
	// itself; what is on a claim moves with the pod.
	kept := func(dir string) bool {
		return slices.ContainsFunc(c.Mounts, func(m mount) bool {
			return m.SubPath == "" && claims[m.Name] && strings.HasPrefix(dir, m.MountPath+"/")
		})
	}
	if !kept(cfg.Node.State) || !kept(cfg.Book.Rules["files"].Root+"/") {
		t.Errorf("mounted: %v, claims %v", c.Mounts, claims)
	}
	if !slices.ContainsFunc(c.Mounts, func(m mount) bool { return m.MountPath == "/etc/pannier" && m.ReadOnly }) {
		t.Errorf("mounted: %v", c.Mounts)
	}
	service := kinds["Service"]
	if set := kinds["StatefulSet"].Spec; service.Metadata.Name != set.ServiceName || !maps.Equal(service.Spec.Selector, map[string]any{"app": "orders"}) ||
		len(service.Spec.Ports) != 1 || service.Spec.Ports[0].Port != c.Ports[0].Port {
		t.Errorf("the service is %+v", service)
	}
	for name, p := range map[string]probe{"readyz": c.Startup, "/readyz": c.Readiness, "/livez": c.Liveness} {
		if p.Get.Path != "/"+strings.Trim(name, "/") || p.Get.Port != "http" || p.Get.Scheme != "HTTPS" || p.Period == 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// TestKubernetesSchema: Kubernetes' own schemas, of the first version that has sidecars and of a later one, take the
// manifest as it is. They would not take it with a field that is misspelled, of another type, or missing.
func TestKubernetesSchema(t *testing.T) {
	program := filepath.Join(cmp.Or(os.Getenv("PANNIER_KUBECTL_VALIDATE"), "/var/cache/pannier-test/kubectl-validate-v0.0.4"), "kubectl-validate")
	needs(t, program)
	manifest, err := os.ReadFile("kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(text, version string) (string, error) {
		dir := t.TempDir()
		at := filepath.Join(dir, "kubernetes.yaml")
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), program, "--version", version, at)
		cmd.Env = []string{"HOME=" + dir} // no cluster of whoever runs this is asked
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, version := range []string{"1.29", "1.30"} {
		if out, err := validate(string(manifest), version); err != nil || !strings.Contains(out, "OK") {
			t.Errorf("%s: %v\n%s", version, err, out)
		}
	}
	for old, wrong := range map[string]string{
		"  clusterIP:":                                  "  clusterIp:",
		"  publishNotReadyAddress":                      "  publishNotReadyAdress",
		"fsGroupChangePolicy:":                          "fsGroupsChangePolicy:",
		"startupProbe:":                                 "startUpProbe:",
		"failureThreshold: 60":                          `failureThreshold: "60"`,
		"  selector:\n    matchLabels: {app: orders}\n": "",
		"accessModes: [":                                "accessMode: [",
		"restartPolicy: Always  ":                       "restartPolicies: Always  ",
		"capabilities: {drop: [ALL":                     "capabilities: {drops: [ALL",
	} {
		if !strings.Contains(string(manifest), old) {
			t.Errorf("the manifest has no %q any more", old)
			continue
		}
		if out, err := validate(strings.Replace(string(manifest), old, wrong, 1), "1.30"); err == nil {
			t.Errorf("it takes %q\n%s", wrong, out)
		}
	}
}
