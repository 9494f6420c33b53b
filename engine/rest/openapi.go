package rest

import (
	"encoding/json"
	"net/http"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// What the generator of the OpenAPI document does not know: the forms that streams have here, of errors, and
// conditions.

const (
	events  = "text/event-stream"
	archive = "application/octet-stream"
)

// lists are the calls whose stream is a list, by the name that it has in the answer.
var lists = map[string]string{"List": "requests", "Browse": "entries", "Check": "replies"}

type object = map[string]any

// document is the OpenAPI document.
func document() ([]byte, error) {
	const op = "make OpenAPI document"
	var doc object
	if err := json.Unmarshal(adminpb.OpenAPI, &doc); err != nil {
		return nil, fault.Wrap(op, "", err)
	}
	doc["info"] = object{"title": "The API of a Pannier node", "version": strings.Trim(Prefix, "/")}
	doc["securityDefinitions"] = object{"token": object{"type": "apiKey", "in": "header", "name": "Authorization", "description": "\"Bearer TOKEN\" over TLS; on the unix socket the user is known"}}
	doc["security"] = []object{{"token": []string{}}}
	doc["definitions"].(object)["Problem"] = object{
		"type": "object", "description": "what every answer has whose status is no success",
		"properties": object{"error": object{"type": "string"}, "kind": object{"type": "string"}, "number": object{"type": "integer", "format": "int32"}, "advice": object{"type": "string"}},
	}
	for _, methods := range doc["paths"].(object) {
		for _, call := range methods.(object) {
			call.(object)["responses"].(object)["default"] = object{"description": "an error", "schema": object{"$ref": "#/definitions/Problem"}}
		}
	}
	service := adminpb.File_admin_proto.Services().ByName("Admin")
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
		if !ok || rule == nil {
			continue
		}
		call := callAt(doc, rule)
		good := call["responses"].(object)["200"].(object)
		item := object{"$ref": "#/definitions/v1" + string(m.Output().Name())}
		switch name := string(m.Name()); {
		case lists[name] != "":
			call["produces"] = []string{"application/json", ndjson}
			good["description"] = "one object with all of them; with Accept: " + ndjson + " one of them in each line. An error after the first is the field problem, or a last line with it alone."
			good["schema"] = object{"type": "object", "properties": object{lists[name]: object{"type": "array", "items": item}, "problem": object{"type": "string"}}}
		case name == "Watch":
			call["produces"] = []string{events}
			good["description"] = "server-sent events: each change has the JSON of a v1Change as its data, end says why the stream is over, in its field error if that was one. Comments come when nothing else does."
			good["schema"] = object{"type": "string"}
			call["parameters"] = append(call["parameters"].([]any), header("Last-Event-ID", "id of the last event that was heard: what has ended since is told first"))
		case name == "Backup":
			call["produces"] = []string{archive}
			good["description"] = "a zip archive. One that breaks off breaks the connection."
			good["schema"] = object{"type": "string", "format": "binary"}
		case m.IsStreamingServer():
			return nil, fault.New(op, fault.Internal, "nothing is known of the form of %s", name)
		case name == "GetObject":
			good["headers"] = object{"ETag": object{"type": "string", "description": "of an object that was applied"}}
			call["responses"].(object)["304"] = object{"description": "it has an ETag of If-None-Match still"}
			call["parameters"] = append(call["parameters"].([]any), header("If-None-Match", "ETags that are known"))
		case name == "PutObject", name == "DeleteObject":
			call["parameters"] = append(call["parameters"].([]any), header("If-Match", "ETag that the object has to have now"))
			if name == "PutObject" {
				call["parameters"] = append(call["parameters"].([]any), header("If-None-Match", "*: there has to be no such object yet"))
			}
		}
	}
	return json.Marshal(doc)
}

func header(name, text string) object {
	return object{"name": name, "in": "header", "required": false, "type": "string", "description": text}
}

// callAt is what the document has of a call.
func callAt(doc object, rule *annotations.HttpRule) object {
	pattern, _ := patternOf(rule)
	method, _, _ := strings.Cut(pattern, " ")
	path := rule.GetGet() + rule.GetPost() + rule.GetPut() + rule.GetDelete() // one of them
	return doc["paths"].(object)[path].(object)[strings.ToLower(method)].(object)
}

// openAPI answers with the document.
func openAPI(doc []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(doc)
	}
}
