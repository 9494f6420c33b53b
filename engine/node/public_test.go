package node_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/adminpb"
)

// TestOutputStaysSecret: what a task has printed, and a command is called with, may be a secret. No answer and no page
// that those get who may only read has it, whoever has looked before; those who operate get it.
func TestOutputStaysSecret(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{os.WriteFile(dir+"/x", []byte("x"), 0o600), os.Mkdir(dir+"/in", 0o700), os.WriteFile(dir+"/in/y", []byte("y"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	rule := func(name, tasks string) string {
		return fmt.Sprintf("[[rule]]\nname = %q\ndirection = \"send\"\npartners = [\"*\"]\nroot = %q\nretry = { attempts = 1 }\nsender = { pre = [%s] }\n", name, dir, tasks)
	}
	const says = `{ task = "exec", argv = ["/bin/sh", "-c", "echo seen-canary >&2; exit 3", "called-canary"]%s }`
	const stays = `{ task = "wait", path = "never", timeout = "10m" }`
	w := newWeb(t, rule("fails", fmt.Sprintf(says, ""))+rule("warns", fmt.Sprintf(says, ", warning = [3]"))+rule("stays", fmt.Sprintf(says, ", warning = [3]")+", "+stays)+
		"[[folder]]\nname = \"in\"\nrule = \"fails\"\npartner = \"a\"\ndir = \"in\"\nstable = \"20ms\"\n")
	engine := w.node.Engine()
	ended := func(rule string, want lifecycle.State) string {
		t.Helper()
		q := w.submit("a", rule, "x", "to-"+rule)
		if want != lifecycle.Running {
			if q, err := engine.Wait(context.Background(), q); err != nil || q.State != want {
				t.Fatal(q.State, q.Failure, err)
			}
		}
		return q.Key.ID.String()
	}
	failed, warned, running := ended("fails", lifecycle.InError), ended("warns", lifecycle.Done), ended("stays", lifecycle.Running)
	read, operate := w.token("reads", `"read","submit"`, ""), w.token("operates", `"operate"`, "")
	until := func(path, text string) {
		t.Helper()
		for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			if _, _, reply := w.ask("", "GET", path, ""); strings.Contains(reply, text) {
				return
			} else if time.Since(begun) > time.Minute {
				t.Fatalf("%s has no %s: %s", path, text, reply)
			}
		}
	}
	until("/v1/requests/"+running, `"output":"seen-canary`)
	until("/v1/folders/in", "seen-canary")

	own := "role=REQUESTER"
	for path, secret := range map[string]bool{ // and whether there is any
		"/v1/requests?": true, "/v1/folders/in?": true, "/v1/objects?": true,
		"/v1/requests/" + failed + "?" + own: true, "/v1/requests/" + failed + "/events?" + own: true, "/v1/requests/" + failed + "/explain?" + own: true, "/v1/requests/" + failed + "/timeline?ref.role=REQUESTER": true,
		"/v1/requests/" + failed + "/wait?ref.role=REQUESTER": true,
		"/v1/requests/" + warned + "?" + own:                  true, "/v1/requests/" + warned + "/events?" + own: true, "/v1/requests/" + warned + "/explain?" + own: true,
		"/v1/requests/" + running + "?" + own: true, "/v1/requests/" + running + "/explain?" + own: true, "/v1/requests/" + running + "/events?" + own: true,
		"/transfers?": true, "/errors?": true, "/folders/in?": true, "/folders?": false, "/partners?": false, "/times?": false,
		"/transfers/" + failed + "?role=requester": true, "/transfers/" + warned + "?role=requester": true, "/transfers/" + running + "?role=requester": true,
	} {
		for _, who := range []struct {
			token string
			may   bool
		}{{operate, true}, {read, false}, {operate, true}} {
			code, _, reply := w.ask(who.token, "GET", path, "")
			if code != 200 || strings.Contains(reply, "canary") != (who.may && secret) {
				t.Errorf("%s, by one who may operate %v: %d %s", path, who.may, code, reply)
			}
		}
	}
	if code, _, reply := w.ask(read, "GET", "/v1/requests/"+failed+"/log", ""); code != 403 || strings.Contains(reply, "canary") {
		t.Errorf("the log: %d %s", code, reply)
	}
	if code, _, reply := w.ask(operate, "GET", "/v1/requests/"+failed+"/log?"+own, ""); code != 200 || !strings.Contains(reply, "canary") {
		t.Errorf("the log: %d %s", code, reply)
	}
	if _, _, reply := w.ask(read, "GET", "/v1/requests/"+failed+"/explain?"+own, ""); !strings.Contains(reply, "run command: the log there says more") {
		t.Errorf("who reads is not told why it has failed: %s", reply)
	}
	for token, may := range map[string]bool{read: false, operate: true} {
		ctx, client := w.grpc(token)
		ctx, stop := context.WithCancel(ctx)
		for _, id := range []string{running, failed} {
			changes, err := client.Watch(ctx, &adminpb.WatchRequest{Refs: []*adminpb.Ref{{Id: id, Role: adminpb.Request_REQUESTER}}})
			if err != nil {
				t.Fatal(err)
			}
			if c, err := changes.Recv(); err != nil || strings.Contains(c.String(), "canary") != may {
				t.Errorf("a change, by one who may operate %v: %v %v", may, c, err)
			}
		}
		stop()
	}
	for token, finds := range map[string]bool{read: false, operate: true} { // who searches learns nothing else
		if _, _, reply := w.ask(token, "GET", "/transfers?q="+url.QueryEscape("seen-can"), ""); strings.Contains(reply, failed) != finds {
			t.Errorf("a search for what is hidden finds something: %v", !finds)
		}
	}
	w.https.CloseIdleConnections()
	w.local.CloseIdleConnections()
	w.end()
}
