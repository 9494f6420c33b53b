package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxText is the most bytes of each text of an entry; the rest is cut.
const MaxText = 4096

// Entry is what is recorded.
type Entry struct {
	Who    string // as "user 1000", "token ops", "partner hostb", "the node"
	Do     string // as "Submit", "Cancel", "reload", "refused"
	On     string // id of the request or name of the object; may be empty
	Detail string // what exactly, for people; may be empty
	Error  string // why it was not done; empty: it was
}

// Record is an entry as it is kept.
type Record struct {
	Seq    uint64    `json:"seq"` // from 1, without gaps over all files
	Time   time.Time `json:"time"`
	Prev   string    `json:"prev"` // Hash of the record before; of the first one, zeros
	Who    string    `json:"who"`
	Do     string    `json:"do"`
	On     string    `json:"on,omitempty"`
	Detail string    `json:"detail,omitempty"`
	Error  string    `json:"error,omitempty"`
	Hash   string    `json:"hash,omitempty"` // SHA-256 of the line without it
}

// zeros is the Hash before the first record.
var zeros = strings.Repeat("0", 2*sha256.Size)

const hashField = `,"hash":"`

// line is a record as it is kept, without the newline, and its hash.
func (r *Record) line() ([]byte, string, error) {
	r.Hash = ""
	body, err := json.Marshal(r)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(body)
	r.Hash = hex.EncodeToString(sum[:])
	return append(body[:len(body)-1], hashField+r.Hash+`"}`...), r.Hash, nil
}

// parse reads a line; why says what is wrong with it.
func parse(line []byte) (r Record, why string) {
	tail := len(hashField) + len(zeros) + len(`"}`)
	if len(line) < tail || !bytes.HasPrefix(line[len(line)-tail:], []byte(hashField)) {
		return r, "it is no record"
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || d.More() {
		return r, "it is no record"
	}
	sum := sha256.Sum256(append(bytes.Clone(line[:len(line)-tail]), '}'))
	if r.Hash != hex.EncodeToString(sum[:]) {
		return r, "it has been changed: its hash is another"
	}
	return r, ""
}

func clip(s string) string {
	if len(s) > MaxText {
		s = s[:MaxText] + "..."
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "?")
	}
	return s
}
