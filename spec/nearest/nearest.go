// Package nearest finds which name was probably meant by one that is not known.
package nearest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Meant is "; did you mean ...?" with the name that is nearest to the one that
// was written; "" if none is near.
func Meant(written string, names []string) string {
	best, least := "", 1+max(1, min(len(written), longest)/3)
	for _, name := range names {
		d := distance(strings.ToLower(written), strings.ToLower(name))
		if d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// longest is how many bytes of a name are looked at.
const longest = 64

// distance is how many characters are to be put in, taken out, changed, or
// exchanged with their neighbour to get from a to b.
func distance(a, b string) int {
	a, b = a[:min(len(a), longest)], b[:min(len(b), longest)]
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row := rows[0], rows[1], rows[2]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		rows = [3][]int{above, row, before}
	}
	return rows[1][len(b)]
}

// MeantOf is Meant with the names of a table; of several that are as near, the first by the alphabet.
func MeantOf[T any](written string, table map[string]T) string {
	return Meant(written, slices.Sorted(maps.Keys(table)))
}
