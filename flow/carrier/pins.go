package carrier

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

const (
	keyPrefix = "sha256:"
	keyLen    = len(keyPrefix) + 2*sha256.Size
	maxPins   = 1024 // keys in one set
)

// KeyOf is the key of a certificate: "sha256:" and 64 lower-case hex digits of
// the SHA-256 of its public key (SubjectPublicKeyInfo, DER).
func KeyOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return keyPrefix + hex.EncodeToString(sum[:])
}

// Pins are the keys that are good, each as KeyOf gives it. Rotation is having
// the old and the new one for a while.
type Pins []string

// ParsePins reads keys, each in the form KeyOf gives; upper-case digits and
// spaces around are tolerated. No texts give no pins. Errors are fault.Invalid.
func ParsePins(texts ...string) (Pins, error) {
	if len(texts) > maxPins {
		return nil, fault.New("parse pins", fault.TooLong, "%d keys; at most %d", len(texts), maxPins)
	}
	var pins Pins
	for _, t := range texts {
		key, err := parsePin(t)
		if err != nil {
			return nil, err
		}
		pins = append(pins, key)
	}
	return pins, nil
}

func parsePin(text string) (string, error) {
	key := strings.ToLower(strings.TrimSpace(text))
	digits, ok := strings.CutPrefix(key, keyPrefix)
	why := ""
	switch _, err := hex.DecodeString(digits); {
	case !ok:
		why = "it does not begin with " + keyPrefix
	case len(key) != keyLen:
		why = "it does not have 64 hex digits"
	case err != nil:
		why = "it has digits that are not hex"
	default:
		return key, nil
	}
	e := fault.New("parse pin", fault.Invalid, `%s; a pin is "sha256:" and the 64 hex digits of the peer's key`, why)
	e.Subject = text[:min(len(text), 2*keyLen)]
	return "", e
}

// Has reports whether key is one of the pins, exactly.
func (p Pins) Has(key string) bool { return slices.Contains(p, key) }
