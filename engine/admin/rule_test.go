package admin_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestTestRule: the row of a rule says what would become of a request, and why not.
func TestTestRule(t *testing.T) {
	n := newNode(t)
	book := n.engine.Book()
	book.Rules["gone"] = &engine.Rule{Name: "gone", Direction: engine.Send, Partners: []string{"*"}, Root: "/absent/really"}
	book.Rules["keep"] = &engine.Rule{Name: "keep", Direction: engine.Receive, Partners: []string{"*"}, Root: n.in, Exists: engine.Refuse}
	write(t, filepath.Join(n.out, "a/b.txt"), "12345")
	write(t, filepath.Join(n.in, "there.txt"), "1")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(n.out, link); err != nil {
		t.Fatal(err)
	}
	book.Rules["linked"] = &engine.Rule{Name: "linked", Direction: engine.Send, Partners: []string{"*"}, Root: link}
	if err := os.Symlink("/etc/passwd", filepath.Join(n.out, "leak")); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"dangling": "nothing", "within": "a/b.txt", "absolute": filepath.Join(n.out, "a/b.txt"), "away": t.TempDir()} {
		if err := os.Symlink(to, filepath.Join(n.out, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(n.out, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	const send, receive = adminpb.Rule_SEND, adminpb.Rule_RECEIVE
	for _, c := range []struct {
		rule, partner, path string
		direction           adminpb.Rule_Direction
		name, problem       string
	}{
		{"out", "there", filepath.Join(n.out, "a/b.txt"), send, "a/b.txt", ""},
		{"out", "there", filepath.Join(link, "a/b.txt"), send, "a/b.txt", ""},
		{"out", "there", "a/b.txt", send, "a/b.txt", ""},
		{"out", "there", n.out + "/a/../a/./b.txt", send, "a/b.txt", ""},
		{"out", "there", filepath.Join(n.out, "a"), send, "a", "directory: name the files"},
		{"out", "there", n.out, send, "", "the root itself"},
		{"out", "there", "/etc/passwd", send, "", "outside"},
		{"out", "there", n.out + "x/a", send, "", "outside"},
		{"out", "there", "../x", send, "", "outside"},
		{"out", "there", "none", send, "none", "no such file"},
		{"out", "there", "leak", send, "leak", `"leak" is a symbolic link, and it is not followed`},
		{"out", "there", "absolute", send, "absolute", "has to be relative"},
		{"out", "there", "away/x", send, "away/x", `"away" is a symbolic link, and it is not followed`},
		{"out", "there", "dangling", send, "dangling", "link to what is not there"},
		{"out", "there", "within", send, "within", ""},
		{"out", "there", "within/none", send, "within/none", "no such file"},
		{"out", "there", "pipe", send, "pipe", "no regular file"},
		{"out", "there", "a\x01b", send, "", "invalid"},
		{"out", "there", "x", receive, "x", "direction is send"},
		{"closed", "there", "a/b.txt", 0, "a/b.txt", "may not use it"},
		{"gone", "there", "a", send, "a", "not a directory"},
		{"linked", "there", filepath.Join(n.out, "a/b.txt"), send, "a/b.txt", ""},
		{"in", "far", "new.txt", receive, "new.txt", ""},
		{"in", "far", "there.txt", receive, "there.txt", ""},
		{"keep", "far", "there.txt", receive, "there.txt", "does not replace"},
	} {
		reply, err := n.TestRule(t.Context(), &adminpb.TestRuleRequest{Rule: c.rule, Partner: c.partner, Path: c.path, Direction: c.direction})
		if err != nil || len(reply.Tests) != 1 {
			t.Errorf("%s %s: %v %v", c.rule, c.path, reply, err)
			continue
		}
		if got := reply.Tests[0]; got.Name != c.name || (c.problem == "") != (got.Problem == "") || !strings.Contains(got.Problem, c.problem) {
			t.Errorf("%s %s: %v; want name %q, problem %q", c.rule, c.path, got, c.name, c.problem)
		}
	}
	reply, err := n.TestRule(t.Context(), &adminpb.TestRuleRequest{Partner: "there", Path: n.out + "/a/b.txt", Direction: send})
	if err != nil || len(reply.Tests) != 4 {
		t.Fatal(reply, err)
	}
	for i, want := range []string{"closed", "gone", "linked", "out"} {
		got := reply.Tests[i]
		if got.Rule != want || got.Allowed != (want != "closed") || got.RootExists != (want != "gone") || got.Inside != (want != "gone") {
			t.Error(got)
		}
	}
	if out := reply.Tests[3]; out.Size != 5 || !out.PathExists || out.PathDirectory || !out.RootWritable || out.Root != n.out {
		t.Error(out)
	}
}

// TestTestRuleHung: a rule whose root is in a file system that does not answer is told of, and not looked into; the
// others are. So is the directory of the path itself.
func TestTestRuleHung(t *testing.T) {
	n := newNode(t)
	write(t, filepath.Join(n.out, "a/b.txt"), "12345")
	hung := t.TempDir()
	n.engine.Book().Rules["hung"] = &engine.Rule{Name: "hung", Direction: engine.Send, Partners: []string{"*"}, Root: hung}
	for _, c := range []struct {
		hung, path string
		silent     []string
	}{
		{hung, filepath.Join(n.out, "a/b.txt"), []string{"hung"}},
		{filepath.Join(n.out, "a"), filepath.Join(n.out, "a/b.txt"), []string{"closed", "hung", "out"}},
	} {
		answer := admin.Hang(c.hung)
		reply, err := n.TestRule(t.Context(), &adminpb.TestRuleRequest{Partner: "there", Path: c.path, Direction: adminpb.Rule_SEND})
		answer()
		if err != nil || len(reply.Tests) != 3 {
			t.Fatal(reply, err)
		}
		for _, row := range reply.Tests {
			silent := strings.HasSuffix(row.Problem, engine.SilentRoot) && !row.RootExists && !row.PathExists
			if silent != slices.Contains(c.silent, row.Rule) || !silent && row.Rule == "out" && row.Problem != "" {
				t.Errorf("%s does not answer: %v", c.hung, row)
			}
		}
	}
}

func TestTestRuleRefuses(t *testing.T) {
	n := newNode(t)
	for _, c := range []struct {
		in   *adminpb.TestRuleRequest
		kind fault.Kind
	}{
		{&adminpb.TestRuleRequest{Partner: "nobody", Path: "a", Direction: 1}, fault.NotFound},
		{&adminpb.TestRuleRequest{Partner: "there", Path: "a", Rule: "none"}, fault.NotFound},
		{&adminpb.TestRuleRequest{Partner: "there", Direction: 1}, fault.Invalid},
		{&adminpb.TestRuleRequest{Partner: "there", Path: "a"}, fault.Invalid},
		{&adminpb.TestRuleRequest{Partner: "there", Path: "a", Direction: 7}, fault.Invalid},
	} {
		_, err := n.TestRule(t.Context(), c.in)
		wantKind(t, err, c.kind)
	}
}

func TestLists(t *testing.T) {
	n := newNode(t)
	n.engine.SetPartner(engine.PartnerStatus{Name: "there", Connected: true, RTT: 5, Running: 2, Queued: 3,
		Failure: lifecycle.Failure{Kind: fault.Lost, Cause: "x"}}, nil)
	partners, err := n.ListPartners(t.Context(), &adminpb.ListPartnersRequest{})
	if err != nil || len(partners.Partners) != 2 || partners.Partners[0].Name != "far" || partners.Partners[0].Rtt != nil {
		t.Fatal(partners, err)
	}
	if p := partners.Partners[1]; !p.Connected || p.Rtt.AsDuration() != 5 || p.Running != 2 || p.Queued != 3 || p.Failure.GetName() != "connection lost" {
		t.Error(p)
	}
	rules, err := n.ListRules(t.Context(), &adminpb.ListRulesRequest{})
	if err != nil || len(rules.Rules) != 3 || rules.Rules[2].Name != "out" || rules.Rules[2].Digest != "sha256" || rules.Rules[2].Quota != -1 ||
		rules.Rules[2].Root != n.out || rules.Rules[1].Direction != adminpb.Rule_RECEIVE || rules.Rules[1].Exists != "replace" {
		t.Error(rules, err)
	}
	if err := os.RemoveAll(n.out); err != nil {
		t.Fatal(err)
	}
	for _, look := range []bool{false, true} {
		rules, err = n.ListRules(t.Context(), &adminpb.ListRulesRequest{Roots: look})
		if err != nil || (rules.Rules[2].Unwritable != "") != look {
			t.Errorf("roots %v: %v, %v", look, rules, err)
		}
	}
	_, err = n.TestPartner(t.Context(), &adminpb.TestPartnerRequest{Partner: "nobody"})
	wantKind(t, err, fault.NotFound)
}
