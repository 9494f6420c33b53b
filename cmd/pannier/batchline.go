package main

import (
	"strings"
	"unicode/utf8"

	"github.com/pannier/pannier/spec/fault"
)

// A batch is lines; each has words as a shell has them, without what a shell does with them.

// word is a word of a line and where it begins.
type batchWord struct {
	text   string
	column int // from 1, in characters
}

// batchError is what is wrong with a line, and where.
type batchError struct {
	column int
	error
}

func (e batchError) Unwrap() error { return e.error }

// wordsOf splits a line: at spaces and tabs; what is between ' is as it is, between " \ is
// before a " or a \; elsewhere \ takes the meaning of the next character. # begins a comment where a
// word could.
func wordsOf(line string) (words []batchWord, err error) {
	var b strings.Builder
	bad := func(column int, format string, args ...any) error {
		return batchError{column, fault.New("read line", fault.Invalid, format, args...)}
	}
	if !utf8.ValidString(line) {
		return nil, bad(1, "it is not UTF-8")
	}
	text := []rune(line)
	for i := 0; i < len(text); {
		switch text[i] {
		case ' ', '\t', '\r':
			i++
			continue
		case '#':
			return words, nil
		}
		begin := i
		b.Reset()
		for i < len(text) && text[i] != ' ' && text[i] != '\t' && text[i] != '\r' {
			switch c := text[i]; c {
			case '\'', '"':
				opened := i
				for i++; i < len(text) && text[i] != c; i++ {
					if c == '"' && text[i] == '\\' && i+1 < len(text) && (text[i+1] == '"' || text[i+1] == '\\') {
						i++
					}
					b.WriteRune(text[i])
				}
				if i == len(text) {
					return nil, bad(opened+1, "this %c is not closed", c)
				}
			case '\\':
				if i++; i == len(text) {
					return nil, bad(i, "nothing follows the \\: a line cannot go on in the next one")
				}
				b.WriteRune(text[i])
			case '$', '`', '|', ';', '&', '<', '>', '*', '?', '(', ')':
				return nil, bad(i+1, "%c means nothing here, where no shell is: write it in '", c)
			default:
				b.WriteRune(c)
			}
			i++
		}
		words = append(words, batchWord{b.String(), begin + 1})
	}
	return words, nil
}
