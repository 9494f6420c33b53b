// Package spec_test checks what the documents of this folder say against the
// code: which package may import what.
package spec_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pannier/pannier/"

// layers is the content of layers.txt.
type layers struct {
	ours map[string][]string // package pattern: patterns it may import
	deps map[string][]string // heavy dependency: patterns that may import it
}

func readLayers(t *testing.T) layers {
	text, err := os.ReadFile("layers.txt")
	if err != nil {
		t.Fatal(err)
	}
	l := layers{map[string][]string{}, map[string][]string{}}
	for _, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, may, ok := strings.Cut(line, ":")
		if !ok {
			t.Fatalf("layers.txt: %q has no colon", line)
		}
		if dep, ok := strings.CutPrefix(name, "dep "); ok {
			l.deps[dep] = strings.Fields(may)
		} else {
			l.ours[name] = strings.Fields(may)
		}
	}
	return l
}

// matches reports whether a package is one of the patterns.
func matches(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if p == "*" || p == pkg {
			return true
		}
		root, below := strings.CutSuffix(p, "/...")
		return below && (pkg == root || strings.HasPrefix(pkg, root+"/"))
	})
}

// rule is the most specific line for a package.
func (l layers) rule(pkg string) (may []string, ok bool) {
	if may, ok = l.ours[pkg]; ok {
		return may, true
	}
	for p := range l.ours {
		if strings.HasSuffix(p, "/...") && matches(pkg, []string{p}) {
			return l.ours[p], true
		}
	}
	return nil, false
}

type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func listPackages(t *testing.T) []goPackage {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// check returns what is wrong with one package's imports.
func (l layers) check(p goPackage) (wrong []string) {
	pkg := strings.TrimPrefix(p.ImportPath, module)
	may, ok := l.rule(pkg)
	if !ok {
		return []string{pkg + " is not in layers.txt"}
	}
	for _, imp := range p.Imports {
		ours, isOurs := strings.CutPrefix(imp, module)
		if isOurs && !matches(ours, may) && !strings.HasPrefix(ours, pkg+"/internal/") {
			wrong = append(wrong, pkg+" imports "+ours)
		}
		for dep, homes := range l.deps {
			if (imp == dep || strings.HasPrefix(imp, dep+"/")) && !matches(pkg, homes) {
				wrong = append(wrong, pkg+" imports "+imp)
			}
		}
	}
	return wrong
}

func TestLayers(t *testing.T) {
	l := readLayers(t)
	for _, p := range listPackages(t) {
		for _, w := range l.check(p) {
			t.Error(w)
		}
	}
}

// TestLayersIsStrict shows that the check can fail.
func TestLayersIsStrict(t *testing.T) {
	l := readLayers(t)
	for _, p := range []goPackage{
		{ImportPath: module + "sideeffect", Imports: []string{module + "flow"}},
		{ImportPath: module + "flow", Imports: []string{"google.golang.org/grpc"}},
		{ImportPath: module + "flow/wire", Imports: []string{module + "flow"}},
		{ImportPath: module + "somewhere"},
	} {
		if l.check(p) == nil {
			t.Errorf("%v is allowed", p)
		}
	}
}
