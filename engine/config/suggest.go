package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pannier/pannier/spec/nearest"
)

// meant is what was probably meant by a name that is not known, as nearest.Meant.
func meant(written string, names []string) string { return nearest.Meant(written, names) }

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
