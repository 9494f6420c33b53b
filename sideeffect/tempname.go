package sideeffect

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

const (
	tempMark    = ".pannier-"
	stateSuffix = ".state"
	newSuffix   = ".new" // of a state file that is being written

	sharedDigits = 16 // of a partial file that is anybody's who writes to the target
	keyedDigits  = 32 // of one with a key: more, because who chooses keys must not find two alike
)

// IsOwn reports whether an element of a path is a name for files of transfers
// themselves: it begins with a dot and has ".pannier-" in it, in small or capital
// letters, because some file systems do not tell them apart. Nobody may name such
// a file as source or target.
func IsOwn(element string) bool {
	return strings.HasPrefix(element, ".") && strings.Contains(strings.ToLower(element), tempMark)
}

// RefuseOwn is fault.Invalid when an element of the path IsOwn.
func RefuseOwn(op string, p relpath.Path) error {
	for e := range strings.SplitSeq(p.String(), "/") {
		if IsOwn(e) {
			err := fault.New(op, fault.Invalid, "names that begin with a dot and contain \""+tempMark+"\" are for unfinished files: use another name")
			err.Subject = p.String()
			return err
		}
	}
	return nil
}

// tempName is a fresh name for the content of base until it is complete:
// "." + base + ".pannier-t" + 16 random digits.
func tempName(base string) string {
	var b [8]byte
	rand.Read(b[:])
	return ownName(base, 't', hex.EncodeToString(b[:]))
}

// partialName is the name of base's partial file between runs. It does not depend
// on the source, because a sink offers its resume point before it knows that.
// Without a key (Descriptor.ResumeKey) it is "." + base + ".pannier-r" + XXH3-64(base)
// in 16 digits, with one the first 32 digits of SHA-256(length of base ":" base key)
// stand there.
func partialName(base, key string) string {
	if key == "" {
		return ownName(base, 'r', fmt.Sprintf("%0*x", sharedDigits, xxh3.HashString(base)))
	}
	sum := sha256.Sum256([]byte(strconv.Itoa(len(base)) + ":" + base + key))
	return ownName(base, 'r', hex.EncodeToString(sum[:keyedDigits/2]))
}

// PartialName is where what has arrived of target is kept between runs of that
// Descriptor.ResumeKey.
func PartialName(target relpath.Path, key string) (relpath.Path, error) {
	return target.Dir().Join(partialName(target.Base(), key))
}

// IsPartial reports whether a file of that name, without its directory, is kept
// between runs.
func IsPartial(base string) bool {
	n := partialDigits(base)
	return n == sharedDigits || n == keyedDigits
}

// IsKeyed reports whether it is kept for one Descriptor.ResumeKey.
func IsKeyed(base string) bool { return partialDigits(base) == keyedDigits }

// partialDigits is how many digits there are behind the mark of a partial file, if nothing else is.
func partialDigits(base string) int {
	const mark = tempMark + "r"
	i := strings.LastIndex(base, mark)
	if i < 1 || base[0] != '.' {
		return 0
	}
	digits := base[i+len(mark):]
	if strings.Trim(digits, "0123456789abcdef") != "" {
		return 0
	}
	return len(digits)
}

// stateName is the name of the state file beside a partial file.
func stateName(partial string) string { return partial + stateSuffix }

// ownName is "." + base + mark + letter + digits, base shortened at a character to
// what fits with both suffixes; the digits keep shortened names apart.
func ownName(base string, letter byte, digits string) string {
	most := relpath.MaxElement - 1 - len(tempMark) - 1 - len(digits) - len(stateSuffix) - len(newSuffix)
	if n := most; len(base) > n {
		for n > 0 && !utf8.RuneStart(base[n]) {
			n--
		}
		base = base[:n]
	}
	return "." + base + tempMark + string(letter) + digits
}

// appendBE appends big-endian numbers of 8 bytes.
func appendBE(b []byte, ns ...int64) []byte {
	for _, n := range ns {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return b
}
