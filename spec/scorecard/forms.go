package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// secretOf is what of an identity's key must be nowhere.
func secretOf(id *carrier.Identity) ([]byte, error) {
	key, ok := id.Certificate().PrivateKey.(ed25519.PrivateKey)
	if !ok {
		return nil, fault.New("read key", fault.Unsupported, "it is a %T", id.Certificate().PrivateKey)
	}
	return key.Seed(), nil
}

// formsOf are the ways in which bytes may have been written: as they are, in
// hexadecimal and base64 wherever they begin in it, and as Go prints slices.
func formsOf(b []byte) []string {
	lower := hex.EncodeToString(b)
	forms := []string{string(b), lower, strings.ToUpper(lower)}
	for at := range 3 {
		padded := append(make([]byte, at), b...)
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := e.EncodeToString(padded)
			// the first characters are of the padding, too, the last of what follows
			forms = append(forms, text[(at*4+2)/3:len(text)-1])
		}
	}
	few := b[:min(len(b), 12)]
	return append(forms, strings.Trim(fmt.Sprint(few), "[]"), strings.ReplaceAll(strings.Trim(fmt.Sprint(few), "[]"), " ", ", "),
		strings.Trim(strings.TrimPrefix(fmt.Sprintf("%#v", few), "[]byte"), "{}"))
}
