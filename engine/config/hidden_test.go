package config

import (
	"strings"
	"testing"
)

// TestWithoutAddresses: nothing of an address but its host is left, however it is written;
// the rest of the text is as it was.
func TestWithoutAddresses(t *testing.T) {
	for text, want := range map[string]string{
		`url = "https://hooks.example/T0/B1?token=x"`:                 `url = "https://hooks.example/%hidden%"`,
		`url = 'https://hooks.example:8443/a'  # for "ops"`:           `url = "https://hooks.example:8443/%hidden%"  # for "ops"`,
		`url = "https:\u002F\u002Fhooks.example/\u0041"`:              `url = "https://hooks.example/%hidden%"`,
		"url = \"\"\"\nhttps://hooks\\\n   .example/a b c\"\"\" # x":  `url = "https://hooks.example/%hidden%" # x`,
		`url = "https://hooks.example/a b"`:                           `url = "https://hooks.example/%hidden%"`,
		`url = "https://u:p w@hooks.example"`:                         `url = "https://%hidden%"`,
		`url = "https://u:p@hooks.example"`:                           `url = "https://hooks.example/%hidden%"`,
		`url = "https://hooks.example?a"`:                             `url = "https://hooks.example/%hidden%"`,
		`url = "https://hooks.example/#a"`:                            `url = "https://hooks.example/%hidden%"`,
		`url = "https://hooks.example/?"`:                             `url = "https://hooks.example/%hidden%"`,
		`url = "smtp://mail.example:587"`:                             `url = "smtp://mail.example:587"`,
		`url = "https://hooks.example/"`:                              `url = "https://hooks.example/"`,
		`argv = ["curl", "--url=https://u:p@h/x", "a#b"] # c`:         `argv = ["curl", "--url=https://h/%hidden%", "a#b"] # c`,
		`text = "see https://a/b, and ftp://c/d"`:                     `text = "see https://a/%hidden% and ftp://c/%hidden%"`,
		`# was https://hooks.example/old` + "\n" + `a = "# https://"`: `# was https://hooks.example/%hidden%` + "\n" + `a = "# https://"`,
		`address = "tls://hostb:6610"`:                                `address = "tls://hostb:6610"`,
		`address = "unix:///run/b.sock"`:                              `address = "unix:///run/b.sock"`,
		`secret = "file:/etc/pannier/hook"`:                           `secret = "file:/etc/pannier/hook"`,
		"n = 7\nt = 2026-01-02T03:04:05Z # d\nb = true":               "n = 7\nt = 2026-01-02T03:04:05Z # d\nb = true",
	} {
		if got := WithoutAddresses(text); got != want {
			t.Errorf("%s\nis   %s\nwant %s", text, got, want)
		}
	}
	nested := "[[rule]] # https://x/1\npost = [\n  { task = \"http\", url = \"https://h/2\" }, # https://x/3\n]\n[rule.sender]\nerror = [{ task = \"http\", url = \"https://h/4\" }]\n"
	if got := WithoutAddresses(nested); strings.Count(got, hidden) != 4 || strings.ContainsAny(got, "1234") {
		t.Errorf("%s", got)
	}
}
