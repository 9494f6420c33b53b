package sideeffect

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"github.com/pannier/pannier/spec/relpath"
)

const (
	tempMark    = ".pannier-"
	stateSuffix = ".state"
	newSuffix   = ".new" // of a state file that is being written

	// maxShownBase leaves room for the rest of the longest temporary name:
	// dot, base, mark, a letter, 16 digits, both suffixes.
	maxShownBase = relpath.MaxElement - 1 - len(tempMark) - 1 - 16 - len(stateSuffix) - len(newSuffix)
)

// tempName is a fresh name for the content of base until it is complete:
// "." + base + ".pannier-t" + 16 random digits.
func tempName(base string) string {
	var b [8]byte
	rand.Read(b[:])
	return "." + cutName(base) + tempMark + "t" + hex.EncodeToString(b[:])
}

// partialName is the name of base's partial file between runs. It depends on
// base only, because a sink offers its resume point before it knows the
// source: "." + base + ".pannier-r" + XXH3-64(base) in 16 digits.
func partialName(base string) string {
	return fmt.Sprintf(".%s%sr%016x", cutName(base), tempMark, xxh3.HashString(base))
}

// PartialName is where what has arrived of target is kept between runs.
func PartialName(target relpath.Path) (relpath.Path, error) {
	return target.Dir().Join(partialName(target.Base()))
}

// IsPartial reports whether a file of that name, without its directory, is kept
// between runs.
func IsPartial(base string) bool {
	i := strings.LastIndex(base, tempMark+"r")
	digits := base[max(i, 0):]
	if i < 1 || base[0] != '.' || len(digits) != len(tempMark)+1+16 {
		return false
	}
	return strings.Trim(digits[len(tempMark)+1:], "0123456789abcdef") == ""
}

// stateName is the name of the state file beside the partial file.
func stateName(base string) string { return partialName(base) + stateSuffix }

// cutName is base, shortened at a character to what fits; the digits keep
// shortened names apart.
func cutName(base string) string {
	if len(base) <= maxShownBase {
		return base
	}
	n := maxShownBase
	for n > 0 && !utf8.RuneStart(base[n]) {
		n--
	}
	return base[:n]
}

// appendBE appends big-endian numbers of 8 bytes.
func appendBE(b []byte, ns ...int64) []byte {
	for _, n := range ns {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return b
}
