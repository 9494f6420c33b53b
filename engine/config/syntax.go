package config

import (
	"strings"
	"unicode/utf8"
)

// syntaxHint says what was probably meant in a line that is no TOML from the byte at on; it may be
// empty. It looks at what people bring along: values without quotes, paths of Windows, other
// languages' comments and signs, quotes of word processors.
func syntaxHint(line string, at int) string {
	before, rest := line[:at], line[at:]
	open := openQuote(before)
	key, value := pairAround(line, at)
	switch first, _ := utf8.DecodeRuneInString(strings.TrimSpace(rest)); {
	case strings.ContainsRune("“”„‟«»‘’", first) || strings.HasPrefix(value, "“"):
		return `write straight quotes: "`
	case open == '"' && strings.Contains(line[max(0, at-2):min(at+1, len(line))], `\`):
		return `a backslash begins an escape: write \\ for one, or the whole text in single quotes`
	case open != 0 && strings.TrimSpace(rest) == "":
		return "the text does not end in its line: close it with " + string(open)
	case open == 0 && (first == '"' || first == '\'') && strings.Contains(before, "["):
		return "a comma stands between values"
	case strings.HasPrefix(strings.TrimSpace(line), ";") || strings.HasPrefix(strings.TrimSpace(line), "//"):
		return "a comment begins with #"
	case key == "" && (first == ':' || strings.HasPrefix(strings.TrimSpace(line), "{")):
		return `TOML is neither YAML nor JSON: write [node] and below it name = "hosta"`
	case key == "" || strings.HasPrefix(value, `"`) || strings.HasPrefix(value, "'"):
		return ""
	case value == "":
		return "write what is behind =, as " + key + ` = "..."`
	}
	switch strings.ToLower(value) {
	case "true", "false", "yes", "no", "on", "off":
		return "write true or false"
	}
	if strings.Trim(value, "0123456789,.") == "" && value[0] != '0' {
		return ""
	}
	return "a text stands in quotes: " + key + ` = "` + value + `"`
}

// openQuote is the quote of a text that has begun before the end of the line; 0: there is none.
func openQuote(line string) (open byte) {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case open == 0 && c == '#':
			return 0
		case open == 0 && (c == '"' || c == '\''):
			open = c
		case open == '"' && c == '\\':
			i++
		case c == open:
			open = 0
		}
	}
	return open
}

// pairAround is the key whose value stands at that place of a line, and that value as it is written;
// empty without one.
func pairAround(line string, at int) (key, value string) {
	sign := strings.LastIndexByte(line[:at], '=')
	if sign < 0 {
		return "", ""
	}
	words := strings.FieldsFunc(line[:sign], func(r rune) bool { return r == ' ' || r == '\t' || r == '{' || r == ',' })
	if len(words) == 0 {
		return "", ""
	}
	value = line[sign+1:]
	if !strings.ContainsAny(value, `"'`) {
		if end := strings.IndexAny(value, "#,]}"); end >= 0 {
			value = value[:end]
		}
	}
	return words[len(words)-1], strings.TrimSpace(value)
}
