package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/audit"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/spec/adminpb"
)

// TestAudit: who has ordered what is in the log, what was refused too, and what only looks
// is not; the chain goes on over restarts.
func TestAudit(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	cfg := a.config(b.partner() + "[audit]\nenabled = true\nsync = \"each\"\n")
	again := a.config(b.partner() + "[audit]\nenabled = true\nsync = \"each\"\n[[rule]]\nname = \"more\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"" + a.dir + "/files\"\n")
	a.o.Read = func() (*config.Config, error) { return again, nil }
	a.start(cfg)
	client, err := admin.Dial(cfg.Node.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	a.write("x", "from a")
	made, err := client.Submit(ctx, &adminpb.SubmitRequest{Partner: "b", Rule: "push", Source: "x", Target: "x2"})
	if err != nil {
		t.Fatal(err)
	}
	id := made.GetRequest().GetId()
	if _, err := client.Submit(ctx, &adminpb.SubmitRequest{Partner: "nobody", Rule: "push", Source: "x"}); err == nil {
		t.Error("a request to nobody")
	}
	if _, err := client.ListPartners(ctx, &adminpb.ListPartnersRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := client.Cancel(ctx, &adminpb.CancelRequest{Ref: &adminpb.Ref{Id: id}, Why: "not wanted"}); err != nil {
		t.Error(err)
	}
	if _, err := client.Reload(ctx, &adminpb.ReloadRequest{}); err != nil {
		t.Error(err)
	}
	archive, err := client.Backup(ctx, &adminpb.BackupRequest{WithKey: true})
	for err == nil {
		_, err = archive.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	a.end()
	a.start(cfg)
	a.end()
	who := fmt.Sprintf("user %d", os.Getuid())
	dir := node.AuditDir(cfg.Node.State)
	var got []string
	for r, err := range audit.Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		outcome := "done"
		if r.Error != "" {
			outcome = "refused"
		}
		got = append(got, strings.Join([]string{r.Who, r.Do, outcome}, " "))
		if r.Do == "Cancel" && (r.On != id || !strings.Contains(r.Detail, "not wanted")) || r.Do == "reload" && !strings.Contains(r.Detail, "rule more is new") || r.Do == "Backup" && !strings.Contains(r.Detail, "withKey") {
			t.Errorf("%+v", r)
		}
	}
	want := []string{"the node start done", who + " Submit done", who + " Submit refused", who + " Cancel done", "the node reload done", who + " Reload done", who + " Backup done", "the node stop done", "the node start done", "the node stop done"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r, err := audit.Verify(dir, "", ""); err != nil || r.Finding != nil || r.Last != uint64(len(want)) {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestAuditObjects: of an object that is applied, put or refused the log has no more of an address
// than who only reads sees.
func TestAuditObjects(t *testing.T) {
	a := newHost(t, "a")
	cfg := a.config("[audit]\nenabled = true\nsync = \"each\"\n")
	a.start(cfg)
	client, err := admin.Dial(cfg.Node.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	rule := func(name, address string) string {
		return fmt.Sprintf("# a canary\n[[rule]]\nname = %q\ndirection = \"send\"\npartners = [\"*\"]\nroot = %q\npost = [{ task = \"http\", url = %q }]\n", name, a.dir+"/files", address)
	}
	if _, err := client.Apply(ctx, &adminpb.ApplyRequest{Text: rule("one", "https://hooks.example/canary"), More: []*adminpb.ApplyText{{Text: rule("two", "https://hooks.example/?k=canary")}}}); err != nil {
		t.Error(err)
	}
	if _, err := client.PutObject(ctx, &adminpb.PutObjectRequest{Kind: "rule", Name: "three", Text: rule("three", "https://hooks.example/canary")}); err != nil {
		t.Error(err)
	}
	for _, text := range []string{rule("four", "https://me:canary@hooks.example/"), "[[rule]\nname = \"canary\""} {
		if _, err := client.Apply(ctx, &adminpb.ApplyRequest{Text: text}); err == nil {
			t.Errorf("applied: %s", text)
		}
	}
	a.end()
	n := 0
	for r, err := range audit.Read(node.AuditDir(cfg.Node.State)) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Do != "Apply" && r.Do != "PutObject" {
			continue
		}
		n++
		if strings.Contains(fmt.Sprint(r), "canary") || r.Error == "" && !strings.Contains(r.Detail, "hooks.example") {
			t.Errorf("%+v", r)
		}
	}
	if n != 4 {
		t.Errorf("%d orders are recorded", n)
	}
}

// TestAuditStrangers: a key of nobody is recorded, and a flood of them bounded.
func TestAuditStrangers(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	ca, cb := a.config(""), b.config("[audit]\nenabled = true\n")
	ca.Node.Listen, cb.Node.Listen = nil, []string{"tls://127.0.0.1:0"}
	b.start(cb)
	ca.Book.Partners = map[string]*engine.Partner{"b": {Name: "b", Address: b.node.Addresses()[0], Keys: []string{b.node.Key()}}}
	a.start(ca)
	for range 30 {
		if _, err := a.node.Engine().Reach(context.Background(), "b"); err == nil {
			t.Fatal("b lets a stranger in")
		}
	}
	key := a.node.Key()
	b.end()
	n := 0
	for r, err := range audit.Read(node.AuditDir(cb.Node.State)) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Do == "login refused" {
			if n++; r.Who != "key "+key || r.Error == "" {
				t.Errorf("%+v", r)
			}
		}
	}
	if n == 0 {
		t.Error("no stranger is recorded")
	}
}

// TestAuditLong: who makes an order long does not keep out of the log what it was.
func TestAuditLong(t *testing.T) {
	a := newHost(t, "a")
	cfg := a.config("[audit]\nenabled = true\nsync = \"each\"\n")
	a.start(cfg)
	client, err := admin.Dial(cfg.Node.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, padding := context.Background(), "# "+strings.Repeat("x", 2*audit.MaxText)+"\n"
	text := "[[partner]]\nname = \"hidden\"\nkey = \"sha256:" + strings.Repeat("01", 32) + "\"\n"
	if _, err := client.Apply(ctx, &adminpb.ApplyRequest{Text: padding + text}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutObject(ctx, &adminpb.PutObjectRequest{Kind: "partner", Name: "hidden", Text: text + padding}); err != nil {
		t.Fatal(err)
	}
	rules := slices.Repeat([]string{"push"}, audit.MaxText)
	if _, err := client.CreateToken(ctx, &adminpb.CreateTokenRequest{Name: "secret", Scopes: []string{"submit"}, Rules: rules}); err != nil {
		t.Fatal(err)
	}
	a.end()
	want := map[string]string{"Apply": "partner hidden new", "PutObject": "hidden", "CreateToken": "secret"}
	for r, err := range audit.Read(node.AuditDir(cfg.Node.State)) {
		if err != nil {
			t.Fatal(err)
		}
		if what, is := want[r.Do]; is {
			if !strings.Contains(r.Detail, what) {
				t.Errorf("%s: %q", r.Do, r.Detail)
			}
			delete(want, r.Do)
		}
	}
	if len(want) > 0 {
		t.Errorf("not recorded: %v", want)
	}
}

// TestAuditTokens: wrong tokens, in HTTP and at the login page, and tokens of too little scope are
// recorded.
func TestAuditTokens(t *testing.T) {
	w := newWeb(t, "[audit]\nenabled = true\n")
	little := w.token("little", `"submit"`, "")
	w.ask("wrong", "GET", "/v1/requests", "")
	w.ask(little, "GET", "/v1/requests", "")
	w.ask(little, "GET", "/v1/node", "")
	w.ask(little, "POST", "/login", "token=other", "Content-Type", "application/x-www-form-urlencoded")
	dir := node.AuditDir(w.dir + "/state")
	w.end()
	var got []string
	for r, err := range audit.Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Do == "login refused" && r.Error != "" {
			who, _, _ := strings.Cut(r.Who, " 127.")
			got = append(got, who)
		}
	}
	if want := []string{"somebody from", "token little", "token little", "somebody from"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestAuditFlood: who has a token and gives orders that are refused, or calls what it may not,
// fills neither the audit log nor the log, and keeps nobody else's orders out; how many were left
// out is said.
func TestAuditFlood(t *testing.T) {
	w := newWeb(t, "[audit]\nenabled = true\n")
	flooder := w.token("flooder", `"submit"`, `,"rules":["push"]`)
	other := w.token("other", `"submit"`, `,"rules":["push"]`)
	w.write("x", "content")
	const times = 200
	began := time.Now()
	order := func(token, rule string) int {
		code, _, _ := w.ask(token, "POST", "/v1/requests", `{"partner":"a","rule":"`+rule+`","source":"x"}`)
		return code
	}
	for range times {
		if code := order(flooder, "pull"); code != 403 {
			t.Fatal(code)
		}
	}
	if code := order(other, "pull"); code != 403 {
		t.Fatal(code)
	}
	if code := order(other, "push"); code != 200 {
		t.Fatal(code)
	}
	ctx, client := w.grpc(flooder)
	for range times {
		if _, err := client.Cancel(ctx, &adminpb.CancelRequest{Ref: &adminpb.Ref{Id: "1234"}}); err == nil {
			t.Fatal("it may cancel")
		}
	}
	most := 10 * (2 + int(time.Since(began)/time.Second))
	time.Sleep(time.Second) // so that there is room for the next
	if code := order(flooder, "pull"); code != 403 {
		t.Fatal(code)
	}
	dir, log := node.AuditDir(w.dir+"/state"), w.log.String()
	w.end()
	orders, others, logins, said := 0, 0, 0, 0
	for r, err := range audit.Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Do == "Submit" && r.Who == "token flooder":
			orders++
			if n := 0; strings.Contains(r.Detail, "were not recorded one by one") {
				if _, err := fmt.Sscanf(r.Detail, "%d refused orders before", &n); err != nil {
					t.Errorf("%q", r.Detail)
				}
				said += n
			}
		case r.Do == "Submit" && r.Who == "token other":
			others++
		case r.Do == "login refused":
			logins++
		}
	}
	if orders > most+1 || orders+said != times+1 || others != 2 {
		t.Errorf("of %d orders %d are recorded, at most %d may be, and %d are told of; of another's two %d", times+1, orders, most, said, others)
	}
	if logged := strings.Count(log, "admin call refused"); logins > most || logged > most || logged == 0 {
		t.Errorf("of %d calls %d are recorded and %d logged, at most %d may be", times, logins, logged, most)
	}
}
