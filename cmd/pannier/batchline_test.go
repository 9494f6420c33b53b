package main

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pannier/pannier/spec/shellword"
)

func TestBatchWords(t *testing.T) {
	for _, c := range []struct {
		line    string
		want    []string
		columns []int
	}{
		{"", nil, nil},
		{"  # all of it", nil, nil},
		{"send a b", []string{"send", "a", "b"}, []int{1, 6, 8}},
		{"\tsend  'a b'\t\"c\\\" \\d\" # x", []string{"send", "a b", `c" \d`}, []int{2, 8, 14}},
		{`send a\ b ''`, []string{"send", "a b", ""}, []int{1, 6, 11}},
		{`get hostb:/ü#1 ü`, []string{"get", "hostb:/ü#1", "ü"}, []int{1, 5, 16}},
		{"send a'b'\"c\"d\r", []string{"send", "abcd"}, []int{1, 6}},
	} {
		got, err := wordsOf(c.line)
		var texts []string
		var columns []int
		for _, w := range got {
			texts, columns = append(texts, w.text), append(columns, w.column)
		}
		if err != nil || !slices.Equal(texts, c.want) || !slices.Equal(columns, c.columns) {
			t.Errorf("%q: %q at %v, %v", c.line, texts, columns, err)
		}
	}
	for line, column := range map[string]int{`send 'a b`: 6, `send "a`: 6, `send a\`: 7, `send $HOME/x b`: 6, `send *.iso b`: 6, "send \xff": 1, `send a; rm b`: 7} {
		_, err := wordsOf(line)
		var at batchError
		if !errors.As(err, &at) || at.column != column {
			t.Errorf("%q: %v, want column %d", line, err, column)
		}
	}
}

// TestBatchQuoted: what is quoted for a shell comes back as it was.
func TestBatchQuoted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[^\x00\n\r]{0,12}`), 1, 5).Draw(t, "words")
		back, err := wordsOf(shellword.Line(words...))
		if err != nil || len(back) != len(words) {
			t.Fatalf("%q: %v, %v", words, back, err)
		}
		for i := range back {
			if back[i].text != words[i] {
				t.Fatalf("%q became %q", words[i], back[i].text)
			}
		}
	})
}
