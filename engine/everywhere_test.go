package engine_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/engine/task/catalogue"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// everyTask is what each task of the catalogue needs in a request, in whichever list it is.
type everyTask struct {
	table   task.Table
	content func(t *testing.T) []byte // of the file; nil: text
	noFile  bool                      // it needs none: it is done in a receiver's pre list, too
	gone    bool                      // the file is: a sender's pre task leaves nothing to send
	only    func(side lifecycle.Side, list lifecycle.List) bool
}

// elsewhere are tasks that need a server, and whole requests of which are in other tests.
var elsewhere = map[string]string{
	"bridge": "TestKilledAtTasks of engine/node, in each list, with a plugin",
	"icap":   "TestKilledAtTasks of engine/node, in each list, with a scripted server",
	"mail":   "TestKilledAtTasks of engine/node, in each list, with a server",
}

func everyTaskOf(t *testing.T) map[string]everyTask {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	beside := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file:" + path
	}
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(hook.Close)
	packed := func(t *testing.T) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		err := w.WriteHeader(&tar.Header{Name: "a", Mode: 0o644, Size: 4})
		if err == nil {
			_, err = w.Write([]byte("text"))
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	zipped := func(t *testing.T) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write([]byte("text")); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	sealed := func(t *testing.T) []byte {
		var b bytes.Buffer
		w, err := age.Encrypt(&b, key.Recipient())
		if err == nil {
			_, err = w.Write([]byte("text"))
		}
		if err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	one := int64(1)
	return map[string]everyTask{
		"log":      {table: task.Table{Text: "x"}, noFile: true},
		"exec":     {table: task.Table{Argv: []string{"/bin/true"}}, noFile: true},
		"move":     {table: task.Table{To: "moved/{id}"}},
		"rename":   {table: task.Table{To: "{id}.renamed"}},
		"copy":     {table: task.Table{To: "copies/{id}"}},
		"link":     {table: task.Table{To: "{id}.link"}},
		"delete":   {gone: true, noFile: true},
		"mkdir":    {table: task.Table{Path: "made/{id}"}, noFile: true},
		"chmod":    {table: task.Table{Mode: "0600"}},
		"check":    {table: task.Table{MinSize: (*task.Size)(&one)}},
		"wait":     {table: task.Table{Path: "ready"}, noFile: true},
		"checksum": {table: task.Table{To: "sums/{id}"}},
		"verify":   {table: task.Table{Path: "SUMS"}},
		"snapshot": {table: task.Table{To: "snaps/{id}"}, noFile: true},
		"receipt": {table: task.Table{To: "receipts/{id}"}, only: func(s lifecycle.Side, l lifecycle.List) bool {
			return s == lifecycle.Receiver && l == lifecycle.PostList
		}},
		"archive":    {table: task.Table{To: "archives/{id}.tar"}},
		"extract":    {table: task.Table{To: "extracted/{id}", Format: "tar"}, content: packed},
		"compress":   {table: task.Table{To: "compressed/{id}.gz"}},
		"decompress": {table: task.Table{To: "decompressed/{id}", Format: "gzip"}, content: zipped},
		"transcode":  {table: task.Table{To: "transcoded/{id}", Newline: "crlf"}},
		"encrypt":    {table: task.Table{To: "encrypted/{id}", Recipients: beside("recipients", key.Recipient().String()+"\n")}},
		"decrypt":    {table: task.Table{To: "decrypted/{id}", Identities: beside("identities", key.String()+"\n")}, content: sealed},
		"http":       {table: task.Table{URL: hook.URL, Required: true}, noFile: true},
		"transfer":   {table: task.Table{Partner: "a", Rule: "on", Wait: true}},
		"reschedule": {table: task.Table{Delay: task.Duration(10 * time.Millisecond), Attempts: 1}, noFile: true, only: func(_ lifecycle.Side, l lifecycle.List) bool { return l == lifecycle.ErrorList }},
	}
}

// TestTasksEverywhere: each task of the catalogue in each list of either end of a whole request in
// which it may be. In a receiver's pre list there is no file, which those that need one say.
func TestTasksEverywhere(t *testing.T) {
	all := everyTaskOf(t)
	for name := range catalogue.Tasks() {
		if _, known := all[name]; known == (elsewhere[name] != "") {
			t.Errorf("task %q is in no request of this test", name)
		}
	}
	broken := []task.Step{{Name: "broken", Task: &failing{}, Timeout: time.Minute}}
	type place struct {
		name string
		side lifecycle.Side
		list lifecycle.List
		as   everyTask
	}
	places := map[string]place{}
	for name, as := range all {
		for _, side := range []lifecycle.Side{lifecycle.Sender, lifecycle.Receiver} {
			for _, list := range []lifecycle.List{lifecycle.PreList, lifecycle.PostList, lifecycle.ErrorList} {
				if as.only == nil || as.only(side, list) {
					places[fmt.Sprintf("%s-%d-%v", name, side, list)] = place{name, side, list, as}
				}
			}
		}
	}
	signer, err := carrier.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	p := newPair(t, func(n *node) {
		n.limits.Signer = signer
		n.rules["on"] = &engine.Rule{Name: "on", Direction: engine.Send, Partners: []string{"*"}, Root: n.root, Quota: sideeffect.NoQuota}
		for rule, at := range places {
			at.as.table.Task = at.name
			if at.name == "transfer" { // to the other one
				at.as.table.Partner = map[string]string{"a": "b", "b": "a"}[n.name]
			}
			steps, err := task.Make(catalogue.Tasks(), []task.Table{at.as.table})
			if err != nil {
				t.Fatal(rule, err)
			}
			r := &engine.Rule{Name: rule, Direction: engine.Send, Partners: []string{"*"}, Root: n.root, Quota: sideeffect.NoQuota, Retry: engine.Retry{Delay: time.Millisecond, Attempts: 1}}
			lists := engine.Lists{}
			switch at.list {
			case lifecycle.PreList:
				lists.Pre = steps
			case lifecycle.PostList:
				lists.Post = steps
			default:
				lists.Post, lists.Error = broken, steps
			}
			if at.side == lifecycle.Sender {
				r.Sender = lists
			} else {
				r.Receiver = lists
			}
			n.rules[rule] = r
		}
		sums := ""
		for rule, at := range places {
			if at.name == "verify" {
				for _, name := range []string{rule, rule + ".there"} {
					sums += "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1  " + name + "\n"
				}
			}
		}
		for name, text := range map[string]string{"SUMS": sums, "ready": "x"} {
			path := filepath.Join(n.root, name)
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	})
	for rule, at := range places {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			content := []byte("text")
			if at.as.content != nil {
				content = at.as.content(t)
			}
			if err := os.WriteFile(filepath.Join(p.nodes["a"].root, rule), content, 0o644); err != nil {
				t.Fatal(err)
			}
			made, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: rule, Source: path(t, rule), Target: path(t, rule+".there")})
			if err != nil {
				t.Fatal(err)
			}
			r, err := p.nodes["a"].engine.Wait(t.Context(), store.RefOf(&made))
			if err != nil {
				t.Fatal(err)
			}
			done, of := r.Tasks[at.list], r
			if at.side == lifecycle.Receiver {
				if of, err = p.nodes["b"].engine.Wait(t.Context(), other(store.RefOf(&made))); err != nil {
					t.Fatal(err)
				}
				done = of.Tasks[at.list]
			}
			needs := at.side == lifecycle.Receiver && at.list == lifecycle.PreList && !at.as.noFile // a file, and there is none
			nothing := at.side == lifecycle.Sender && at.list == lifecycle.PreList && at.as.gone    // left to send
			want := lifecycle.Done
			if at.list == lifecycle.ErrorList || needs || nothing {
				want = lifecycle.InError
			}
			if at.name == "reschedule" { // once; the second failure is for good
				if of.Delays != 1 || of.State != want {
					t.Errorf("%v, made due again %d times; %s", of.State, of.Delays, of.Failure.Cause)
				}
				return
			}
			if of.State != want || (done == 1) == needs {
				t.Errorf("%v, want %v; %d tasks are done; %v %s", of.State, want, done, of.Failure.Kind, of.Failure.Cause)
			}
			if at.list == lifecycle.ErrorList && of.Failure.Kind != fault.Refused {
				t.Errorf("the failure is another: %+v", of.Failure)
			}
			if want == lifecycle.Done && !slices.Equal(r.Tasks[:2], r.Spec.Tasks[:2]) {
				t.Errorf("%v of %v tasks are done", r.Tasks, r.Spec.Tasks)
			}
		})
	}
}
