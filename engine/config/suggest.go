package config

import (
	"fmt"
	"slices"
	"strings"
)

// meant is "; did you mean ...?" with the name that is nearest to the one that
// was written; "" if none is near.
func meant(written string, names []string) string {
	best, least := "", 1+max(1, len(written)/3)
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

// distance is how many characters are to be put in, taken out, changed, or
// exchanged with their neighbour to get from a to b.
func distance(a, b string) int {
	const longest = 64 // bytes that are looked at
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

const mostNames = 20 // that a hint lists

// listed is names as a hint shows them.
func listed(names []string) string {
	if len(names) > mostNames {
		return strings.Join(names[:mostNames], ", ") + fmt.Sprintf(" and %d more", len(names)-mostNames)
	}
	return strings.Join(names, ", ")
}

// sorted is the names of a table, for hints.
func sorted[T any](m map[string]T) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
