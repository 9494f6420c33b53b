package sftp

import (
	"encoding/hex"
	"encoding/json"
	"path"
	"strings"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// token is what goes on with a file later. The part's name follows from the file's.
type token struct {
	ID string `json:"id"`
	At int64  `json:"at"` // bytes from the beginning that the server has confirmed, without a hole
	// The state of the checksum after At bytes.
	Algorithm string `json:"alg,omitempty"`
	State     []byte `json:"state,omitempty"`
}

// newToken is of that WriteRequest.ID.
func newToken(id string) token { return token{ID: plugins.PartID(id)} }

// parseToken is a new one without resume.
func parseToken(resume []byte, id string) (t token, err error) {
	if resume == nil {
		return newToken(id), nil
	}
	digits, bad := []byte(nil), json.Unmarshal(resume, &t)
	if bad == nil {
		digits, bad = hex.DecodeString(t.ID)
	}
	if bad != nil || len(digits) != 6 || t.At < 0 {
		return t, fault.New("sftp resume", fault.Invalid, "what is to be gone on with is not what an earlier Abort has returned")
	}
	return t, nil
}

func (t token) bytes() []byte {
	b, _ := json.Marshal(t)
	return b
}

// part is the name of a file until it has its own: beside it, so that giving it that name
// is a rename.
func (t token) part(target string) string {
	dir, base := path.Split(target)
	const most = 200 // bytes of an element have room up to 255
	if len(base) > most {
		base = strings.ToValidUTF8(base[:most], "") // not half a character
	}
	return dir + base + ".pannier-" + t.ID + ".part"
}
