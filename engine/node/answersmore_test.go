package node_test

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-openapi/strfmt"
	"github.com/go-openapi/validate"
)

// Parts of TestAnswers.

// answersOfProgress are those about a request of the node to itself that is DONE.
func (w *web) answersOfProgress(id string) {
	at := "/v1/requests/" + id
	const done = `"state":"DONE","phase":"FINISHED","role":"REQUESTER","side":"SENDER","partner":"a","rule":"push","source":"x","target":"old"`
	w.all(
		asked{"GET", at + "/wait?ref.role=REQUESTER&timeout=60s", "", `{"id":"` + id + `",` + done + `}`},
		asked{"GET", "/v1/requests?states=DONE&partner=a&limit=1", "", `{"requests":[{"id":"` + id + `","state":"DONE"}],"problem":null}`},
		asked{"GET", at + "/explain?role=REQUESTER", "", `{"request":{"id":"` + id + `",` + done + `},"summary":"done at this end: 5 bytes sent, stored and verified at a, all tasks run","cause":"","partner":{"name":"a"},"do":[]}`},
	)
	var names []string
	for _, e := range w.all(asked{"GET", at + "/events?role=REQUESTER", "", `{}`})["events"].([]any) {
		names = append(names, e.(map[string]any)["event"].(string))
	}
	if n := len(names); n < 3 || names[0] != "Register" || !strings.HasSuffix(names[n-1], "Conclude") {
		w.t.Errorf("its events are %v", names)
	}
	code, header, text := w.ask("", "GET", "/v1/watch?refs.id="+id, "")
	if code != 200 || header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("%d %v: %s", code, header, text)
	}
	told := false
	for event := range strings.SplitSeq(text, "\n\n") {
		_, data, _ := strings.Cut(event, "data: ")
		if !strings.Contains(event, "event: change") {
			continue
		}
		var change any
		err := json.Unmarshal([]byte(data), &change)
		if err == nil {
			form := w.as.forms["v1Change"]
			err = validate.AgainstSchema(&form, change, strfmt.Default)
		}
		if err != nil {
			w.t.Errorf("%v: %s", err, event)
		}
		told = told || differs("it", change, map[string]any{"request": map[string]any{"id": id, "state": "DONE"}}) == ""
	}
	if !told || !strings.HasSuffix(text, "event: end\ndata: {}\n\n") {
		w.t.Errorf("who watches is told %s", text)
	}
	if err := w.as.saw("GET", "/v1/watch", text); err != nil {
		w.t.Error(err)
	}
}

// answersOfCheck are those about what the node has on its disk, before and after what a request has
// brought was taken away.
func (w *web) answersOfCheck(id string) {
	w.all(asked{"POST", "/v1/check", `{"readData":true}`, `{"replies":[{"counts":{"files":"1","digests":"1","bytes":"5","skipped":"0","warnings":"0","errors":"0"}}],"problem":null}`})
	if err := os.Remove(filepath.Join(w.dir, "files", "old")); err != nil {
		w.t.Fatal(err)
	}
	w.all(asked{"POST", "/v1/check", `{}`, `{"replies":[{"finding":{"severity":"NOTE","subject":"MISSING","id":"` + id + `","rule":"push","file":"old"}},{"counts":{"files":"0","warnings":"0","errors":"0"}}]}`})
}

func (w *web) answersOfPartners(b *host) {
	near := `{"name":"b","address":"unix://` + b.dir + `/peer","connected":true,"failure":null,"bridge":false,"running":0,"queued":0}`
	w.all(
		asked{"POST", "/v1/partners/b/test", `{}`, near},
		asked{"GET", "/v1/partners", "", `{"partners":[{"name":"a","address":"pipe:","connected":true},` + near + `,{"name":"far","address":"unix://` + w.dir + `/nobody","connected":false}]}`},
		asked{"GET", "/v1/browse?partner=b&rule=pull", "", `{"entries":[{"name":"theirs","size":"6","directory":false}],"problem":null}`},
	)
}

func (w *web) answersOfRules() {
	root := fmt.Sprintf(`"root":%q`, w.dir+"/files")
	w.all(
		asked{"GET", "/v1/rules?roots=true", "", `{"rules":[{"name":"pull","direction":"RECEIVE","partners":["*"],` + root + `,"unwritable":""},{"name":"push","direction":"SEND","partners":["*"],` + root + `,"sender":{"pre":0,"post":0,"error":0}}]}`},
		asked{"GET", "/v1/rules:test?rule=push&partner=b&path=x", "", `{"tests":[{"rule":"push","direction":"SEND",` + root + `,"name":"x","allowed":true,"inside":true,"rootExists":true,"rootWritable":true,"pathExists":true,"pathDirectory":false,"size":"5","problem":""}]}`},
	)
}

func (w *web) answersOfObjects() {
	text := "[[rule]]\nname = \"r\"\ndirection = \"send\"\npartners = [\"b\"]\nroot = \"" + w.dir + "/files\"\n"
	other := strings.Replace(text, `["b"]`, `["far"]`, 1)
	inJSON := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			w.t.Fatal(err)
		}
		return string(b)
	}
	is := fmt.Sprintf(`{"kind":"rule","name":"r","text":%s,"origin":"run time","by":"user %d","hidden":false,"notes":["rule r is new"]}`, inJSON(text), os.Getuid())
	put := w.all(asked{"PUT", "/v1/objects/rule/r", `{"text":` + inJSON(text) + `}`, is})
	put["notes"] = []any{} // which only the call that has applied it has
	w.all(
		asked{"GET", "/v1/objects/rule/r", "", inJSON(put)},
		asked{"GET", "/v1/objects?kind=rule", "", `{"objects":[{"name":"pull","origin":"file","revision":"0"},{"name":"push","origin":"file"},` + inJSON(put) + `],"revision":` + inJSON(put["revision"]) + `}`},
		asked{"POST", "/v1/objects:apply", `{"file":"x.toml","text":` + inJSON(other) + `}`, `{"changes":[{"kind":"rule","name":"r","change":"changed","before":` + inJSON(text) + `,"after":` + inJSON(other) + `}],"notes":["rule r has changed"]}`},
		asked{"GET", "/v1/objects/rule/r", "", `{"text":` + inJSON(other) + `}`},
		asked{"DELETE", "/v1/objects/rule/r", "", `{"notes":["rule r is gone"]}`},
		asked{"GET", "/v1/objects?kind=rule", "", `{"objects":[{"name":"pull"},{"name":"push"}]}`},
	)
}

func (w *web) answersOfTokens() {
	made := fmt.Sprintf(`{"name":"eyes","scopes":["read"],"rules":[],"by":"user %d","expires":null}`, os.Getuid())
	reply := w.all(asked{"POST", "/v1/tokens", `{"name":"eyes","scopes":["read"]}`, `{"token":` + made + `}`})
	text, _ := reply["text"].(string)
	if id := reply["token"].(map[string]any)["id"].(string); !strings.HasPrefix(text, "pannier_"+id) {
		w.t.Errorf("the token %s is %.20s...", id, text)
	}
	if code, _, body := w.ask(text, "GET", "/v1/node", ""); code != 200 {
		w.t.Errorf("with the token: %d %s", code, body)
	}
	w.all(
		asked{"GET", "/v1/tokens", "", `{"tokens":[` + made + `]}`},
		asked{"DELETE", "/v1/tokens/eyes", "", `{}`},
		asked{"GET", "/v1/tokens", "", `{"tokens":[]}`},
	)
	if code, _, body := w.ask(text, "GET", "/v1/node", ""); code != 401 {
		w.t.Errorf("with a token that is no more: %d %s", code, body)
	}
}

func (w *web) answersOfNode() {
	w.all(
		asked{"GET", "/v1/node", "", fmt.Sprintf(`{"name":"a","key":%q,"addresses":["unix://%s/peer"],"draining":false}`, w.node.Key(), w.dir)},
		asked{"POST", "/v1/reload", "", `{"notes":["node.log has changed"]}`},
	)
	code, header, body := w.ask("", "GET", "/v1/backup", "")
	archive, err := zip.NewReader(strings.NewReader(body), int64(len(body)))
	if err != nil || code != 200 || header.Get("Content-Type") != "application/octet-stream" {
		w.t.Fatal(code, header, err)
	}
	var names []string
	for _, f := range archive.File {
		names = append(names, f.Name)
	}
	if !slices.Contains(names, "store.db") || slices.Contains(names, "identity.pem") {
		w.t.Errorf("a backup without the key has %v", names)
	}
	if err := w.as.saw("GET", "/v1/backup", body); err != nil {
		w.t.Error(err)
	}
}
