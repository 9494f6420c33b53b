package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// TestRule says of each rule in question what would become of a request. What it
// finds may be another thing a moment later: the engine looks again.
func (s *Server) TestRule(_ context.Context, in *adminpb.TestRuleRequest) (*adminpb.TestRuleReply, error) {
	const op = "test rule"
	book := s.cfg.Engine.Book()
	if _, err := book.Partner(in.GetPartner()); err != nil && in.GetPartner() != s.cfg.Node {
		return nil, err
	}
	want := engine.Direction(in.GetDirection())
	switch {
	case in.GetPath() == "":
		return nil, fault.New(op, fault.Invalid, "say which path")
	case in.GetRule() == "" && want != engine.Send && want != engine.Receive:
		return nil, fault.New(op, fault.Invalid, "say which rule, or which direction")
	}
	var rules []*engine.Rule
	if in.GetRule() != "" {
		r, err := book.Rule(in.GetRule())
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	} else {
		for _, name := range slices.Sorted(maps.Keys(book.Rules)) {
			if r := book.Rules[name]; r.Direction == want && r.Bridge == "" {
				rules = append(rules, r)
			}
		}
	}
	reply, silent := &adminpb.TestRuleReply{}, silentDirs(rules, in.GetPath())
	for _, r := range rules {
		reply.Tests = append(reply.Tests, testRule(r, in.GetPartner(), in.GetPath(), want, silent))
	}
	return reply, nil
}

// silentDirs are those roots of rules, and the path's directory, whose file systems do not answer.
func silentDirs(rules []*engine.Rule, path string) map[string]bool {
	var dirs []string
	for _, r := range rules {
		if r.Root != "" {
			dirs = append(dirs, r.Root)
		}
	}
	if filepath.IsAbs(path) {
		dirs = append(dirs, filepath.Dir(path))
	}
	return askDirs(dirs...)
}

// askDirs asks the file systems of directories.
var askDirs = engine.SilentDirs

// testRule is one row; want is 0 for any direction. What is in silent directories is not looked at.
func testRule(r *engine.Rule, partner, path string, want engine.Direction, silent map[string]bool) *adminpb.RuleTest {
	t := &adminpb.RuleTest{Rule: r.Name, Direction: adminpb.Rule_Direction(r.Direction), Root: rootOf(r), Allowed: r.Allows(partner)}
	if r.Bridge != "" {
		t.Problem = "its root is at a bridge: pannier copy sends files of one"
		return t
	}
	for _, dir := range []string{r.Root, filepath.Dir(path)} {
		if silent[dir] {
			t.Problem = "what is in " + dir + " cannot be looked at: " + engine.SilentRoot
			return t
		}
	}
	if fi, err := os.Stat(r.Root); err == nil && fi.IsDir() {
		t.RootExists = true
		t.RootWritable = unix.Access(r.Root, unix.W_OK) == nil
	}
	rel, inside := below(r.Root, path)
	t.Inside = inside
	var badName error
	if inside && rel != "." {
		var name relpath.Path
		if name, badName = relpath.Parse(rel); badName == nil {
			t.Name = name.String()
		}
	}
	unsendable := ""
	if t.RootExists && (t.Name != "" || rel == ".") {
		unsendable = look(t, r.Root)
	}
	t.Problem = problem(r, t, partner, want, badName, unsendable)
	return t
}

// below is path as a name below root, "." for root itself. A whole path is
// compared as it is written, then with the links of its directory followed; any other
// is a name below root.
func below(root, path string) (rel string, inside bool) {
	if !filepath.IsAbs(path) {
		path = filepath.Clean(path)
		return path, path != ".." && !strings.HasPrefix(path, "../")
	}
	if rel, ok := cutRoot(root, path); ok {
		return rel, true
	}
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", false
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", false
	}
	return cutRoot(real, filepath.Join(dir, filepath.Base(path)))
}

func cutRoot(root, path string) (string, bool) {
	rel, err := filepath.Rel(root, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	return rel, true
}

// look says what is at the path, without leaving the root, and why it cannot be sent; "" if it can.
func look(t *adminpb.RuleTest, root string) (unsendable string) {
	const none = "there is no such file that this node can see"
	in, err := os.OpenRoot(root)
	if err != nil {
		return none
	}
	defer in.Close()
	name := t.Name
	if name == "" {
		name = "."
	}
	fi, err := in.Stat(name)
	if err != nil {
		return cmp.Or(brokenLink(in, name), none)
	}
	t.PathExists, t.PathDirectory = true, fi.IsDir()
	switch mode := fi.Mode(); {
	case mode.IsRegular():
		t.Size = fi.Size()
	case mode.IsDir():
		return "it is a directory: name the files in it"
	default:
		return fmt.Sprintf("it is no regular file (mode %v), and only those are sent", mode)
	}
	return ""
}

// brokenLink is what is wrong with the symbolic link that keeps a name from being seen; "" if none does.
func brokenLink(in *os.Root, name string) string {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		part := name[:i]
		fi, err := in.Lstat(part)
		if err != nil {
			return ""
		}
		if fi.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		switch _, err := in.Stat(part); {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Sprintf("%q is a symbolic link to what is not there: put back what it leads to", part)
		default:
			return fmt.Sprintf("%q is a symbolic link, and it is not followed: one has to be relative and to stay below the rule's root. Send the file itself, by a rule whose root it is in", part)
		}
	}
	return ""
}

// problem is why a request could not be made; "" if it could.
func problem(r *engine.Rule, t *adminpb.RuleTest, partner string, want engine.Direction, badName error, unsendable string) string {
	switch {
	case want != 0 && r.Direction != want:
		return fmt.Sprintf("its direction is %v", r.Direction)
	case !t.Allowed:
		return fmt.Sprintf("partner %q may not use it", partner)
	case !t.RootExists:
		return "its root is not a directory that this node can see"
	case !t.Inside:
		return "the path is outside of its root"
	case badName != nil:
		return fault.Plain(badName)
	case t.Name == "":
		return "the path is the root itself, not a file in it"
	case r.Direction == engine.Send && unsendable != "":
		return unsendable
	case r.Direction == engine.Receive && t.PathDirectory:
		return "a directory has the name"
	case r.Direction == engine.Receive && !t.RootWritable:
		return "this node may not write to its root"
	case r.Direction == engine.Receive && t.PathExists && r.Exists == engine.Refuse:
		return "a file has the name, and the rule does not replace files"
	}
	return ""
}
