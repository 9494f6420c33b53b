package plugins

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// ReadCredentials reads User, Password and Secrets from their file, which is JSON and
// which nobody else may read; "" is none.
func (e *Endpoint) ReadCredentials(path string) error {
	const op = "read credentials"
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fault.Wrap(op, path, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return fault.Wrap(op, path, err)
	case fi.Mode()&0o077 != 0:
		return &fault.Error{Op: op, Kind: fault.Permission, Subject: path, Err: errors.New("others can read it, or its group can"), Advice: "make it the node's user's alone: say chmod 600 " + path + ", and chown it to that user if it is not"}
	}
	var c struct {
		User, Password string
		Secrets        map[string]string
	}
	d := json.NewDecoder(io.LimitReader(f, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return &fault.Error{Op: op, Kind: fault.Invalid, Subject: path, Err: errors.New("it is not JSON with user, password and secrets"), Advice: `write {"user": "me", "password": "secret"}`}
	}
	if strings.ContainsFunc(c.User+c.Password, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return &fault.Error{Op: op, Kind: fault.Invalid, Subject: path, Err: errors.New("user or password has control characters")}
	}
	e.User, e.Password, e.Secrets = c.User, c.Password, c.Secrets
	return nil
}
