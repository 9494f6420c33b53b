package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
)

// deaf is a plugin that serves foreign clients, and hears none.
type deaf struct{ dir.Driver }

func (deaf) Listen(ctx context.Context, l net.Listener, _ map[string]string, _ plugins.Driver) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil
		}
		_ = conn.Close()
	}
}

// answering is one of each, in directory %[1]s: a partner that never answers, and what is due on
// the 29th of February.
const answering = `
[[partner]]
name = "far"
address = "unix://%[1]s/nobody"
user = "1"
pool = "thin"
[[pool]]
name = "thin"
bandwidth = "1MB/s"
[[folder]]
name = "box"
dir = "box"
partner = "a"
rule = "push"
stable = "1h"
include = ["*.csv"]
[[schedule]]
name = "leap"
cron = "0 3 29 2 *"
zone = "UTC"
partner = "a"
rule = "push"
source = "x"
target = "at-leap-{name}"
[[listener]]
plugin = "deaf"
listen = "127.0.0.1:0"
users = [ { name = "guest", password = "file:%[1]s/password", partner = "far", rule = "push" } ]
[[relay]]
name = "lasting"
session = "far"
accept = "unix://%[1]s/lasting"
to = "tcp://inside:22"
allow = ["far"]
`

// asked are a call over HTTP and what its answer, JSON, has at least.
type asked struct{ method, path, body, want string }

// differs says where what is got is not what is wanted; empty: nowhere. Objects may have more
// members than are wanted, lists have as many.
func differs(at string, got, want any) string {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			return at + " is no object"
		}
		for name := range want {
			if d := differs(at+"."+name, got[name], want[name]); d != "" {
				return d
			}
		}
		return ""
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return fmt.Sprintf("%s is %v, want %d of them", at, got, len(want))
		}
		for i := range want {
			if d := differs(fmt.Sprintf("%s[%d]", at, i), got[i], want[i]); d != "" {
				return d
			}
		}
		return ""
	}
	if got != want {
		return fmt.Sprintf("%s is %#v, want %#v", at, got, want)
	}
	return ""
}

// within is the same node, for a test that is part of its own.
func (w *web) within(t *testing.T) *web {
	h, is := *w.host, *w
	h.t, is.host = t, &h
	return &is
}

// try makes a call, and returns its answer and what is wrong with that: it has what is wanted, and
// is as the OpenAPI document says.
func (w *web) try(c asked) (got map[string]any, wrong string) {
	w.t.Helper()
	code, _, body := w.ask("", c.method, c.path, c.body)
	if code != 200 {
		return nil, fmt.Sprintf("status %d: %s", code, body)
	}
	var want any
	if err := json.Unmarshal([]byte(c.want), &want); err != nil {
		w.t.Fatalf("%s: %v", c.want, err)
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		return nil, err.Error()
	}
	wrong = differs("it", got, want)
	if err := w.as.saw(c.method, c.path, got); wrong == "" && err != nil {
		wrong = err.Error()
	}
	if wrong != "" {
		wrong += ": " + body
	}
	return got, wrong
}

// all makes calls one after the other, and returns the last one's answer.
func (w *web) all(calls ...asked) (last map[string]any) {
	w.t.Helper()
	for _, c := range calls {
		got, wrong := w.try(c)
		if wrong != "" {
			w.t.Fatalf("%s %s: %s", c.method, c.path, wrong)
		}
		last = got
	}
	return last
}

// soon makes a call until its answer is as wanted, and returns that.
func (w *web) soon(c asked) (got map[string]any) {
	w.t.Helper()
	wrong := ""
	eventually(w.t, func() bool { got, wrong = w.try(c); return wrong == "" }, func() string { return c.path + ": " + wrong })
	if wrong != "" {
		w.t.FailNow()
	}
	return got
}

// TestAnswers: what a node answers over HTTP when all is well, to each call that its OpenAPI document
// has and in the form that this says, and that it has done it.
func TestAnswers(t *testing.T) {
	h, b := newHost(t, "a"), newHost(t, "b")
	w := &web{host: h}
	h.o.Bundled = []string{"deaf"}
	if err := os.Mkdir(filepath.Join(h.dir, "files", "box"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.write("x", "hello")
	h.write("box/in.csv", "1;2")
	h.write("box/in.txt", "")
	b.write("theirs", "from b")
	b.start(b.config(h.partner() + fmt.Sprintf("[[relay_policy]]\npartner = \"a\"\ndial = [\"unix://%s/peer\"]\n", b.dir)))
	more := fmt.Sprintf(overTLS, h.dir) + fmt.Sprintf(answering, h.dir) + b.partner()
	cfg := h.config(more)
	changed := filepath.Join(h.dir, "a.toml")
	if err := os.WriteFile(changed, []byte(strings.Replace(h.text(more), `log = "debug"`, `log = "info"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	h.o.Read = func() (*config.Config, error) { return config.Load(changed) }
	h.o.Clock = func() time.Time { return time.Now().Add(-5 * time.Hour) }
	h.start(cfg)
	ref := h.submit("a", "push", "x", "old")
	h.done(ref)
	if err := h.end(); err != nil {
		t.Fatal(err)
	}
	h.o.Clock = nil
	h.start(cfg)
	w.meet()
	w.as = w.describedBy()
	old := ref.Key.ID.String()
	in := func(d time.Duration) string {
		return time.Now().Add(d).UTC().Truncate(time.Minute).Format(time.RFC3339)
	}

	t.Run("requests", func(t *testing.T) {
		w := w.within(t)
		const id = "00112233445566778899aabbccddeeff"
		at := "/v1/requests/" + id
		w.all(
			asked{"POST", "/v1/requests", `{"id":"` + id + `","partner":"far","rule":"push","source":"x","target":"y"}`, `{"made":true,"request":{"id":"` + id + `","target":"y"}}`},
			asked{"POST", at + "/pause", "", `{"id":"` + id + `","role":"REQUESTER","partner":"far","state":"INTERRUPTED","reason":"stopped","owner":"REQUESTER"}`},
			asked{"GET", at, "", `{"state":"INTERRUPTED","reason":"stopped"}`},
			asked{"POST", at + "/resume", "", `{"id":"` + id + `","state":"TOSUBMIT","reason":""}`},
			asked{"POST", at + "/cancel", `{"why":"not wanted"}`, `{"id":"` + id + `","state":"INERROR","failure":{"name":"cancelled","side":"here","cause":"not wanted"}}`},
			asked{"GET", at, "", `{"state":"INERROR","failure":{"cause":"not wanted"}}`},
			asked{"POST", at + "/retry", "", `{"id":"` + id + `","state":"TOSUBMIT","round":1}`},
		)
		var words []string
		for _, line := range w.all(asked{"GET", at + "/log", "", `{}`})["lines"].([]any) {
			line := line.(map[string]any)
			if rest, ok := strings.CutPrefix(line["text"].(string), "operator word="); ok && line["level"] == "INFO" && line["at"] != nil {
				words = append(words, strings.Fields(rest)[0])
			}
		}
		if want := []string{"pause", "resume", "cancel", "retry"}; !slices.Equal(words, want) {
			t.Errorf("the log has words %v, want %v", words, want)
		}
	})

	t.Run("timeline", func(t *testing.T) {
		w := w.within(t)
		reached := func(phases ...string) string {
			return `[{"phase":"` + strings.Join(phases, `"},{"phase":"`) + `"}]`
		}
		w.all(asked{"GET", "/v1/requests/" + old + "/timeline?ref.role=REQUESTER", "", `{"partner":"a","asking":false,"trouble":"",
			"here":{"side":"SENDER","state":"DONE","phase":"FINISHED","attempt":1,"durable":"5","size":"5",
				"reached":` + reached("ACCEPTED", "PRE", "READY", "MOVING", "ENDED", "ACKED", "POST", "POSTED", "FINISHED") + `},
			"there":{"side":"RECEIVER","state":"DONE","phase":"FINISHED","attempt":1,"durable":"5","size":"5",
				"reached":` + reached("ACCEPTED", "PRE", "READY", "MOVING", "WHOLE", "COMMITTED", "POST", "POSTED", "FINISHED") + `}}`})
	})

	t.Run("progress", func(t *testing.T) { w.within(t).answersOfProgress(old) })
	t.Run("check", func(t *testing.T) { w.within(t).answersOfCheck(old) })

	t.Run("purge", func(t *testing.T) {
		w := w.within(t)
		w.all(
			asked{"POST", "/v1/purge", `{"before":"` + in(-10*time.Hour) + `"}`, `{"purged":"0"}`},
			asked{"GET", "/v1/requests/" + old + "?role=REQUESTER", "", `{"state":"DONE"}`},
			asked{"POST", "/v1/purge", `{"before":"` + in(-2*time.Hour) + `"}`, `{"purged":"2"}`}, // both ends
		)
		if code, _, body := w.ask("", "GET", "/v1/requests/"+old, ""); code != 404 {
			t.Errorf("one that was purged: %d %s", code, body)
		}
	})

	t.Run("pools", func(t *testing.T) {
		w := w.within(t)
		w.all(asked{"GET", "/v1/pools", "", `{"pools":[{"name":"thin","bandwidth":["1MB/s"],"rate":"1000000","partners":["far"],"rules":[],"waiting":0,"moved":"0"}]}`})
	})

	t.Run("listeners", func(t *testing.T) {
		w := w.within(t)
		got := w.soon(asked{"GET", "/v1/listeners", "", `{"listeners":[{"address":"127.0.0.1:0","plugin":"deaf","serving":true,"problem":"","users":["guest"]}]}`})
		if pid := got["listeners"].([]any)[0].(map[string]any)["pid"].(float64); pid < 2 || int(pid) == os.Getpid() {
			t.Errorf("the plugin is process %v", pid)
		}
	})

	t.Run("relays", func(t *testing.T) {
		w := w.within(t)
		lasting := `{"name":"lasting","session":"far","accept":["unix://` + h.dir + `/lasting"],"at":"here","to":"tcp://inside:22","added":false,"connected":false,"bound":["unix://` + h.dir + `/lasting"],"trouble":"","counts":{"open":0}}`
		more := `"name":"more","session":"b","accept":["unix://` + h.dir + `/more"],"to":"unix://` + b.dir + `/peer"`
		added := `{` + more + `,"at":"here","added":true,"bound":["unix://` + h.dir + `/more"],"trouble":""}`
		w.all(
			asked{"GET", "/v1/relays", "", `{"relays":[` + lasting + `],"policy":[],"connections":[]}`},
			asked{"POST", "/v1/relays", `{` + more + `}`, added},
			asked{"GET", "/v1/relays", "", `{"relays":[` + lasting + `,` + added + `]}`},
			asked{"POST", "/v1/relays/more/test", `{}`, `{"steps":[{"step":"session","failure":null},{"step":"listener","what":"listens at unix://` + h.dir + `/more","failure":null},{"step":"consent","failure":null},{"step":"destination","what":"unix://` + b.dir + `/peer: connected","failure":null}]}`},
			asked{"DELETE", "/v1/relays/more", "", `{"added":true}`},
			asked{"GET", "/v1/relays", "", `{"relays":[` + lasting + `]}`},
		)
	})

	t.Run("folders", func(t *testing.T) {
		w := w.within(t)
		const box = `"name":"box","rule":"push","partners":["a"],"dir":"box","recursive":false,"after":"keep","trouble":"","waiting":"1","open":"0","failed":"0","submitted":"0"`
		const shown = `{` + box + `,"files":[{"path":"box/in.csv","state":"waiting","ids":[],"size":"3"}]}`
		scanned := func(folder any) time.Time {
			text, _ := folder.(map[string]any)["scanned"].(string)
			at, err := time.Parse(time.RFC3339, text)
			if err != nil {
				t.Error(err)
			}
			return at
		}
		before := scanned(w.soon(asked{"GET", "/v1/folders", "", `{"folders":[{` + box + `,"files":[]}]}`})["folders"].([]any)[0])
		after := scanned(w.all(asked{"POST", "/v1/folders/box/scan", "", shown}))
		if !after.After(before) {
			t.Errorf("it was scanned at %v, and before that at %v", after, before)
		}
		w.all(
			asked{"GET", "/v1/folders/box", "", shown},
			asked{"GET", "/v1/folders/box/test", "", `{"files":[
				{"path":"box/in.csv","state":"waiting","why":"it has to stay the same for 1h0m0s","size":"3"},
				{"path":"box/in.txt","state":"excluded","why":"no pattern of include","size":"0"}],"counts":{"waiting":"1","excluded":"1"},"trouble":""}`},
		)
	})

	t.Run("schedules", func(t *testing.T) {
		w := w.within(t)
		const leap = `"name":"leap","cron":"0 3 29 2 *","zone":"UTC","missed":"once","overlap":"allow","rule":"push","direction":"send","partners":["a"],"source":"x","target":"at-leap-{name}","pending":[],"trouble":""`
		w.all(asked{"GET", "/v1/schedules", "", `{"schedules":[{` + leap + `,"upcoming":[]}]}`})
		got := w.all(asked{"GET", "/v1/schedules/leap", "", `{` + leap + `}`})
		times, _ := got["upcoming"].([]any)
		if len(times) != 5 || times[0] != got["next"] {
			t.Errorf("next is %v, and upcoming are %v", got["next"], times)
		}
		for _, at := range times {
			if at, _ := at.(string); !strings.HasSuffix(at, "-02-29T03:00:00Z") {
				t.Errorf("it is due at %s", at)
			}
		}
		run := w.all(asked{"POST", "/v1/schedules/leap/run", "", fmt.Sprintf(`{"by":"user %d","outcome":"made","requests":1,"failed":0,"why":""}`, os.Getuid())})
		last, err := json.Marshal(map[string]any{"last": run})
		if err != nil {
			t.Fatal(err)
		}
		w.all(asked{"GET", "/v1/schedules/leap", "", string(last)})
		eventually(t, func() bool { return h.has("at-leap-x") }, func() string { return "its request has brought nothing" })
	})

	t.Run("expected", func(t *testing.T) {
		w := w.within(t)
		next, due := in(2*time.Hour), in(-2*time.Hour)
		body := func(name, at string) string {
			return fmt.Sprintf(`{"name":%q,"rule":"push","partner":"far","file":"*.csv","at":%q,"expire":"6h"}`, name, at)
		}
		soon := `{"name":"soon","rule":"push","partner":"far","file":"*.csv","cron":"","expire":"6h0m0s","next":"` + next + `","state":"awaited","late":[],"over":[]}`
		late := `{"name":"was","state":"late","late":[{"due":"` + due + `","state":"late","request":"","by":""}],"over":[]}`
		known := fmt.Sprintf(`{"name":"was","state":"acknowledged","late":[],"over":[{"due":%q,"state":"acknowledged","by":"user %d"}]}`, due, os.Getuid())
		w.all(
			asked{"GET", "/v1/expected", "", `{"expected":[]}`},
			asked{"POST", "/v1/expected", body("soon", next), soon},
			asked{"POST", "/v1/expected", body("was", due), late},
			asked{"GET", "/v1/expected", "", `{"expected":[` + late + `,` + soon + `]}`},
			asked{"POST", "/v1/expected/was/acknowledge", `{"due":"` + due + `"}`, known},
			asked{"DELETE", "/v1/expected/soon", "", `{}`},
			asked{"GET", "/v1/expected", "", `{"expected":[` + known + `]}`},
		)
	})
	t.Run("partners", func(t *testing.T) { w.within(t).answersOfPartners(b) })
	t.Run("rules", func(t *testing.T) { w.within(t).answersOfRules() })
	t.Run("objects", func(t *testing.T) { w.within(t).answersOfObjects() })
	t.Run("tokens", func(t *testing.T) { w.within(t).answersOfTokens() })
	t.Run("node", func(t *testing.T) { w.within(t).answersOfNode() })
	w.as.missing(t)
	w.local.CloseIdleConnections()
	w.https.CloseIdleConnections()
	if err := h.end(); err != nil {
		t.Error(err)
	}
}
