// Package shellword writes words so that a POSIX shell reads each of them back as it is: for
// commands that are printed for people to run.
package shellword

import "strings"

// Quote is a word as a shell reads it back. It has quotes only where it needs them.
func Quote(word string) string {
	plain := word != "" && word[0] != '#'
	for _, c := range word {
		plain = plain && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/._-:@%+=,#", c))
	}
	if plain {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// Line is a command of these words.
func Line(words ...string) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = Quote(w)
	}
	return strings.Join(all, " ")
}
