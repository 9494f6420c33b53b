package config

import (
	"bytes"
	"path/filepath"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// AdminOf is where the operators of a file's node call, even if the rest of the file
// makes no sense: a daemon that began with an earlier version of it runs all the
// same. Invalid: it cannot be found out.
func AdminOf(path string) (string, error) {
	data, err := read(path)
	if err != nil {
		return "", err
	}
	root, wrong := parse(data)
	if wrong != nil { // what is above the mistake may do
		end := bytes.LastIndexByte(data[:wrong.at.offset], '\n') + 1
		root, wrong = parse(data[:end])
	}
	if wrong == nil {
		node := root.field("node")
		admin := node.fields["admin"]
		switch state := node.fields["state"]; {
		case !root.has("node"):
		case admin != nil && admin.kind == unstable.String:
			if a, err := carrier.ParseAddress(admin.text); err == nil && a.Scheme == carrier.Unix {
				return admin.text, nil
			}
		case admin == nil && state == nil && node.isText("name"):
			return socketIn(defaultState), nil
		case admin == nil && state != nil && state.kind == unstable.String && filepath.IsAbs(state.text):
			return socketIn(state.text), nil
		}
	}
	return "", fault.New("read configuration", fault.Invalid, "%s does not say where operators call", path)
}

// socketIn is the admin socket of a state directory, unless the file says another.
func socketIn(state string) string {
	return carrier.Unix + "://" + filepath.Join(state, "admin.sock")
}
