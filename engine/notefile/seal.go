package notefile

import (
	"encoding/binary"
	"hash/crc32"
)

// sealSize is what a check adds to a value.
const sealSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// Seal is a value as it is kept under a key: with a check of both in front. bbolt has none of its own.
func Seal(key, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, sealSize+len(value)), sum(key, value)), value...)
}

// Unseal is the value of what Seal has made; false: it is not what was written, or not under that key.
func Unseal(key, sealed []byte) ([]byte, bool) {
	if len(sealed) < sealSize {
		return nil, false
	}
	value := sealed[sealSize:]
	return value, binary.BigEndian.Uint32(sealed) == sum(key, value)
}
