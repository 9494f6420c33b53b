package admin_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/engine/task/catalogue"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/adminpb"
)

// received is a request whose file is at file, of which content has been received
// that many hours ago.
func received(first byte, file, content string, hours int) engine.Status {
	return request(first, done, func(s *engine.Status) {
		s.Spec.Rule, s.Side, s.Spec.Target, s.File = "in", lifecycle.Receiver, name(file), name(file)
		s.Size, s.Rank = int64(len(content)), int64(len(content))
		s.Proof = proof(content)
		s.Changed = time.Now().Add(-time.Duration(hours) * time.Hour)
	})
}

// proof is what a receiver of content by a rule with sha256 keeps.
func proof(content string) string {
	root, err := sideeffect.RootOf(context.Background(), strings.NewReader(content), int64(len(content)), 4, nil)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256([]byte(content))
	return sideeffect.Whole{BlockSize: 4, Root: root, Digest: sideeffect.Sum{Algorithm: sideeffect.SHA256, Bytes: sum[:]}}.String()
}

// check is what Check finds: "SUBJECT id rule file", and the counts.
func check(t *testing.T, n *node, read bool) (found []string, counts *adminpb.CheckCounts) {
	t.Helper()
	s, err := n.Check(t.Context(), &adminpb.CheckRequest{ReadData: read})
	for _, r := range all(t, s, err) {
		if c := r.GetCounts(); c != nil {
			counts = c
			continue
		}
		f := r.GetFinding()
		found = append(found, strings.Join([]string{f.Severity.String(), f.Subject.String(), f.Id[:min(2, len(f.Id))], f.Rule, f.File}, " "))
	}
	if counts == nil {
		t.Fatal("no counts")
	}
	return found, counts
}

// TestCheckFinds one of each, and only what is wrong.
func TestCheckFinds(t *testing.T) {
	n := newNode(t)
	put := func(file, content string) { arrived(t, filepath.Join(n.in, file), content) }
	put("good", "good")
	n.engine.Set(received(1, "good", "good", 1))
	n.engine.Set(received(2, "missing", "x", 2))
	put("short", "1")
	n.engine.Set(received(3, "short", "12", 3))
	put("bad", "baq")
	n.engine.Set(received(4, "bad", "bad", 4))
	if err := os.Mkdir(filepath.Join(n.in, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.engine.Set(received(5, "dir", "x", 5))
	n.engine.Set(request(6, func(s *engine.Status) { s.Due = time.Now().Add(-time.Hour) }))
	n.engine.Set(request(7, func(s *engine.Status) { s.Due = time.Now().Add(-time.Second) }))
	want := []string{
		"WARNING OVERDUE 06 out a.txt", "NOTE MISSING 02 in missing", "ERROR SIZE 03 in short", "NOTE MISSING 05 in dir",
	}
	found, counts := check(t, n, false)
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("%q\nwant %q", found, want)
	}
	if counts.Records != 7 || counts.Files != 3 || counts.Digests != 0 || counts.Errors != 1 || counts.Warnings != 1 || counts.Bytes != 0 {
		t.Error(counts)
	}
	want = append(want[:3:3], "ERROR DIGEST 04 in bad", want[3])
	found, counts = check(t, n, true)
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("%q\nwant %q", found, want)
	}
	if counts.Digests != 2 || counts.Bytes != 7 || counts.Errors != 2 {
		t.Error(counts)
	}
}

// TestCheckBridge: what is at a bridge is not looked at.
func TestCheckBridge(t *testing.T) {
	n := newNode(t)
	n.engine.Book().Rules["@far"] = &engine.Rule{Name: "@far", Direction: engine.Send, Partners: []string{"far"}, Bridge: "far:/"}
	if found, _ := check(t, n, false); len(found) > 0 {
		t.Errorf("%q", found)
	}
}

// arrived is a file that nobody has written to for a long time.
func arrived(t *testing.T, path, content string) {
	t.Helper()
	write(t, path, content)
	long := time.Now().Add(-1000 * time.Hour)
	if err := os.Chtimes(path, long, long); err != nil {
		t.Fatal(err)
	}
}

// TestCheckAnswerable: what others have done with a file since it arrived is a note, and what a task
// has made of it is not compared; a file that nobody has written to is the node's to answer for.
func TestCheckAnswerable(t *testing.T) {
	n := newNode(t)
	rule := n.engine.Book().Rules["in"]
	for _, c := range []struct {
		what  string
		tasks []task.Step
		had   uint8 // tasks that the request had
		file  func(t *testing.T, path, content string)
		want  string
	}{
		{"damaged", nil, 0, arrived, "ERROR SIZE 01 in a"},
		{"written to since", nil, 0, write, "NOTE SIZE 01 in a"},
		{"by a task that changes nothing", []task.Step{{Name: "log"}}, 1, arrived, "ERROR SIZE 01 in a"},
		{"by a task that may exchange it", []task.Step{{Name: "exec", Other: true}}, 1, arrived, ""},
		{"by a task that the rule has no more", nil, 1, arrived, ""},
		{"before the rule had tasks", []task.Step{{Name: "exec", Other: true}}, 0, arrived, "ERROR SIZE 01 in a"},
	} {
		rule.Receiver.Post = c.tasks
		c.file(t, filepath.Join(n.in, "a"), "other")
		r := received(1, "a", "content", 1)
		r.Spec.Tasks[lifecycle.PostList] = c.had
		n.engine.Set(r)
		if found, _ := check(t, n, true); strings.Join(found, ",") != c.want {
			t.Errorf("%s: %q, want %q", c.what, found, c.want)
		}
	}
	for name, kind := range catalogue.Tasks() {
		if _, made := map[string]bool{"exec": true, "archive": true, "extract": true, "compress": true, "decompress": true, "transcode": true, "encrypt": true, "decrypt": true, "bridge": true}[name]; made != kind.Other {
			t.Errorf("task %s: it may exchange the content is %v", name, kind.Other)
		}
	}
}

// TestCheckKnowsSuccessors: a file that a later request has replaced, or that a task
// has taken away, is no finding; what a task has moved is looked for there.
func TestCheckKnowsSuccessors(t *testing.T) {
	n := newNode(t)
	write(t, filepath.Join(n.in, "daily"), "today!")
	n.engine.Set(received(1, "daily", "today!", 1))
	n.engine.Set(received(2, "daily", "yesterday", 24))
	gone := received(3, "x", "x", 2)
	gone.File = name("y").Dir() // the zero path
	n.engine.Set(gone)
	moved := received(4, "x", "moved", 2)
	moved.File = name("arch/x")
	write(t, filepath.Join(n.in, "arch/x"), "moved")
	n.engine.Set(moved)
	// received, then sent on by a rule of the same root whose post task has moved it
	n.engine.Book().Rules["relay"] = &engine.Rule{Name: "relay", Direction: engine.Send, Root: n.in}
	n.engine.Set(received(5, "relayed", "r", 5))
	n.engine.Set(request(6, done, func(s *engine.Status) { s.Spec.Rule, s.Spec.Source, s.File = "relay", name("relayed"), name("sent/r") }))
	// one that is being received over another
	n.engine.Set(received(7, "again", "old", 7))
	again := received(8, "again", "", 0)
	again.State, again.Phase, again.Due = lifecycle.Interrupted, lifecycle.Committed, time.Now()
	n.engine.Set(again)
	left := received(9, "left", "x", 1)
	left.Spec.Rule = "no longer"
	n.engine.Set(left)
	found, counts := check(t, n, true)
	if len(found) != 0 || counts.Skipped != 5 || counts.Digests != 2 {
		t.Errorf("%q %v", found, counts)
	}
}

// TestCheckPartials: partial files that no request will go on with.
func TestCheckPartials(t *testing.T) {
	var kept func(root, name string) bool
	n := newNode(t, func(c *admin.Config) { c.Kept = func(root, name string) bool { return kept(root, name) } })
	old := time.Now().Add(-time.Hour)
	known := received(1, "known", "x", 1)
	partial := func(target string, key string, at time.Time) string {
		p, err := sideeffect.PartialName(name(target), key)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(n.in, p.String())
		write(t, path, "half")
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		return p.String()
	}
	orphans := []string{partial("known", "", old), partial("known", "of another request", old), partial("sub/orphan", "", old)}
	slices.Sort(orphans)
	partial("known", engine.PartialKey(known.Key), old)
	partial("new", "", time.Now().Add(time.Hour))
	write(t, filepath.Join(n.in, ".hidden"), "")
	known.State, known.Phase, known.Failure.Kind = lifecycle.InError, lifecycle.Moving, 16
	n.engine.Set(known)
	foreign := partial("foreign", "of a foreign client", old)
	kept = func(root, name string) bool { return root == n.in && name == foreign }
	found, _ := check(t, n, false)
	slices.Sort(found)
	for i := range orphans {
		orphans[i] = "WARNING PARTIAL  in " + orphans[i]
	}
	if !slices.Equal(found, orphans) {
		t.Errorf("%q, want %q", found, orphans)
	}
}

// TestCheckWithoutRoot: a root that is not there is one finding, not one for each file; a bridge's rule has none.
func TestCheckWithoutRoot(t *testing.T) {
	n := newNode(t)
	n.engine.Book().Rules["@bank"] = &engine.Rule{Name: "@bank", Bridge: "bank"}
	if found, _ := check(t, n, false); len(found) != 0 {
		t.Errorf("%q", found)
	}
	n.engine.Set(received(1, "a", "x", 1))
	n.engine.Set(received(2, "b", "x", 2))
	if err := os.Remove(n.in); err != nil {
		t.Fatal(err)
	}
	if found, _ := check(t, n, false); len(found) != 1 || found[0] != "ERROR UNREADABLE  in " {
		t.Errorf("%q", found)
	}
}

// TestCheckContent: a file is compared by root and digest, whichever the record has.
func TestCheckContent(t *testing.T) {
	n := newNode(t)
	write(t, filepath.Join(n.in, "a"), "content")
	r := received(1, "a", "content", 1)
	whole, root := r.Proof, r.Proof[:strings.Index(r.Proof, ":sha256")]
	other := proof("contenT")
	for _, c := range []struct {
		what, proof string
		digests     int64
		want        string
	}{
		{"both", whole, 1, ""},
		{"root only", root, 1, ""},
		{"another root", other[:len(root)], 1, "DIGEST"},
		{"another digest", root + other[len(root):], 1, "DIGEST"},
		{"none", "", 0, ""},
		{"of a later version", "9:xyz", 0, ""},
	} {
		r.Proof = c.proof
		n.engine.Set(r)
		found, counts := check(t, n, true)
		if counts.Digests != c.digests || len(found) > 1 || (len(found) == 1) != (c.want != "") || !strings.Contains(strings.Join(found, ""), c.want) {
			t.Errorf("%s: %q %v", c.what, found, counts)
		}
	}
	r.Proof = whole
	n.engine.Set(r)
	if q, err := n.Get(t.Context(), &adminpb.Ref{Id: "01aa"}); err != nil || q.Digest != whole[len(root)+1:] {
		t.Error(q, err)
	}
}
