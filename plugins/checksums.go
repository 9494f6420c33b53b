package plugins

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"hash/crc32"
	"slices"
)

// Checksums are the algorithms that a Checksummer may have, the best first.
var Checksums = []string{"sha256", "sha512", "sha1", "md5", "crc32"}

// NewChecksum begins one; nil for an algorithm that is none of Checksums.
func NewChecksum(algorithm string) hash.Hash {
	switch algorithm {
	case "sha256":
		return sha256.New()
	case "sha512":
		return sha512.New()
	case "sha1":
		return sha1.New()
	case "md5":
		return md5.New()
	case "crc32":
		return crc32.NewIEEE()
	}
	return nil
}

// BestChecksum is the best algorithm of those; "" if there is none.
func BestChecksum(of []string) string {
	for _, a := range Checksums {
		if slices.Contains(of, a) {
			return a
		}
	}
	return ""
}
