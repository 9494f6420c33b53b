package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

// refOf reads "ID" or "ID@REQUESTER"; the daemon says what is wrong with it.
func refOf(text string) *adminpb.Ref {
	id, requester, _ := strings.Cut(text, "@")
	return &adminpb.Ref{Id: id, Requester: requester}
}

// refsOf reads several.
func refsOf(all []string) []*adminpb.Ref {
	refs := make([]*adminpb.Ref, len(all))
	for i, text := range all {
		refs[i] = refOf(text)
	}
	return refs
}

// nameOf is how to write the request so that only it is meant.
func nameOf(r *adminpb.Request) string { return r.GetId()[:min(shownDigits, len(r.GetId()))] }

// target is "PARTNER" or "PARTNER:REST".
func target(text string) (partner, rest string, err error) {
	partner, rest, colon := strings.Cut(text, ":")
	switch {
	case partner == "":
		return "", "", fault.New("read arguments", fault.Invalid, "%.200q names no partner", text)
	case colon && rest == "":
		return "", "", fault.New("read arguments", fault.Invalid, "nothing follows the colon of %.200q: write %.200q alone, or what comes after it", text, partner)
	}
	return partner, rest, nil
}

// keyID is the id that a key of the submitter becomes: itself, if it is 32
// hexadecimal digits, else of its hash. Parts, which may be empty, are what tells
// requests under one key apart.
func keyID(key string, parts ...string) string {
	if isID(key) && len(parts) == 0 {
		return strings.ToLower(key)
	}
	sum := sha256.Sum256([]byte(strings.Join(append([]string{"pannier id", key}, parts...), "\x00")))
	return hex.EncodeToString(sum[:16])
}

func isID(text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == 16
}

// layouts are how times can be written, local unless they say otherwise.
var layouts = []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02"}

// past reads a time or an age: "2h", "30d", "2026-01-31".
func past(text string, now time.Time) (time.Time, error) {
	if d, err := quantity.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	return moment(text, "2h, 30d or 2026-01-31 20:00")
}

// future reads a time, a time of day, which is the next one, or a wait: "+2h",
// "20:00".
func future(text string, now time.Time) (time.Time, error) {
	if d, err := quantity.ParseDuration(strings.TrimPrefix(text, "+")); err == nil {
		return now.Add(d), nil
	}
	if t, err := time.ParseInLocation("15:04", text, now.Location()); err == nil {
		y, m, d := now.Date()
		at := time.Date(y, m, d, t.Hour(), t.Minute(), 0, 0, now.Location())
		if !at.After(now) {
			at = time.Date(y, m, d+1, t.Hour(), t.Minute(), 0, 0, now.Location())
		}
		return at, nil
	}
	return moment(text, "20:00, +2h or 2026-01-31 20:00")
}

func moment(text, examples string) (time.Time, error) {
	for _, l := range layouts {
		if t, err := time.ParseInLocation(l, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fault.New("read time", fault.Invalid, "%.40q is not a time; write it as %s", text, examples)
}

// age is a flag of a duration that takes days, too.
type age struct{ value *time.Duration }

func (a age) Type() string { return "duration" }

func (a age) String() string {
	if a.value == nil || *a.value == 0 {
		return ""
	}
	return quantity.FormatDuration(*a.value)
}

func (a age) Set(text string) error {
	d, err := quantity.ParseDuration(text)
	if err == nil {
		*a.value = d
	}
	return err
}

// some is the error of a command that was to do several things, some of which it
// has done.
func some(done int, errs []error) error {
	err := errors.Join(errs...)
	if done == 0 {
		return err
	}
	return command.Partial(err)
}
