package config

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestWithoutAddresses: nothing of an address but its host is left, of a command its program, and of other
// values with an address in them nothing, however it is written; the rest of the text is as it was, but for comments.
func TestWithoutAddresses(t *testing.T) {
	for text, want := range map[string]string{
		`url = "https://hooks.example/T0/B1?token=x"`:                          `url = "https://hooks.example/%hidden%"`,
		`url = 'https://hooks.example:8443/a'  # for "ops"`:                    `url = "https://hooks.example:8443/%hidden%"`,
		`url = "https:\u002F\u002Fhooks.example/\u0041"`:                       `url = "https://hooks.example/%hidden%"`,
		"url = \"\"\"\nhttps://hooks\\\n   .example/a b c\"\"\" # x":           `url = "https://hooks.example/%hidden%"`,
		"\"url\" = '''\nhttps://hooks.example/a#b'''":                          `"url" = "https://hooks.example/%hidden%"`,
		`url = "https://hooks.example/a b"`:                                    `url = "https://hooks.example/%hidden%"`,
		`url = "https://u:p w@hooks.example"`:                                  `url = "%hidden%"`,
		`url = "https://u:p@hooks.example"`:                                    `url = "https://hooks.example/%hidden%"`,
		`url = "https://hooks.example?a"`:                                      `url = "https://hooks.example/%hidden%"`,
		`url = "https://hooks.example/#a"`:                                     `url = "https://hooks.example/%hidden%"`,
		`url = "https://hooks.example/?"`:                                      `url = "https://hooks.example/%hidden%"`,
		`url = "hooks.example/T0?token=x"`:                                     `url = "%hidden%"`,
		`url = "tls://a,https://b/c"`:                                          `url = "tls://a,https:/%hidden%"`,
		`url = "tcp://hooks.example/T0"`:                                       `url = "tcp://hooks.example/%hidden%"`,
		`url = "smtp://mail.example:587"`:                                      `url = "smtp://mail.example:587"`,
		`url = "https://hooks.example/"`:                                       `url = "https://hooks.example/"`,
		`argv = ["/bin/curl", "--url=https://u:p@h/x", "a#b"] # c`:             `argv = ["/bin/curl", "%hidden%", "%hidden%"]`,
		"argv = [ # u\n  '/bin/curl', # v\n  \"\"\"\n-k\"\"\",\n  'x', # w\n]": "argv = [\n  '/bin/curl',\n  \"%hidden%\",\n  \"%hidden%\",\n]",
		`text = "see https://a/b, and ftp://c/d"`:                              `text = "%hidden%"`,
		`text = "see tls://a,https://u:p@b/c"`:                                 `text = "%hidden%"`,
		`text = "see unix:///run/x https://b/c"`:                               `text = "%hidden%"`,
		`text = "{path} has come, token 1"`:                                    `text = "%hidden%"`,
		"subject = 'token 1' # x":                                              `subject = "%hidden%"`,
		`to = "{path} # 1"`:                                                    `to = "{path} # 1"`,
		`# was https://hooks.example/old` + "\n" + `a = "# https:/"`:           "\n" + `a = "# https:/"`,
		`address = "tls://hostb:6610"`:                                         `address = "tls://hostb:6610"`,
		`address = "unix:///run/b.sock"`:                                       `address = "unix:///run/b.sock"`,
		`address = "tls://a,https://u:p@b/c"`:                                  `address = "%hidden%"`,
		`address = "https://b/c"`:                                              `address = "%hidden%"`,
		`secret = "file:/etc/pannier/hook"`:                                    `secret = "file:/etc/pannier/hook"`,
		"n = 7\nt = 2026-01-02T03:04:05Z # d\nb = true":                        "n = 7\nt = 2026-01-02T03:04:05Z\nb = true",
		`retry = { attempts = 3, windows = ["Mon 1:00-2:00"] }`:                `retry = { attempts = 3, windows = ["Mon 1:00-2:00"] }`,
		`text = `: ``, // no TOML
	} {
		if got := WithoutAddresses(text); got != want {
			t.Errorf("%s\nis   %s\nwant %s", text, got, want)
		}
	}
	nested := "[[rule]] # https://x/1\npost = [\n  { task = \"http\", url = \"https://h/2\" }, # https://x/3\n]\n[rule.sender]\nerror = [{ task = \"http\", url = \"https://h/4\" }, { task = \"exec\", argv = [\"/bin/x\", \"5\"] }]\n"
	if got := WithoutAddresses(nested); strings.Count(got, hidden) != 3 || strings.ContainsAny(got, "12345#") || !strings.Contains(got, "/bin/x") {
		t.Errorf("%s", got)
	}
}

// FuzzWithoutAddresses: in whatever form a value is written, none of what may be a secret is left, and what is left
// says the same of all else.
func FuzzWithoutAddresses(f *testing.F) {
	for form := range uint8(3) {
		for place := range uint8(9) {
			f.Add(`a" b'#/@:?`, form, place)
		}
	}
	f.Fuzz(func(t *testing.T, secret string, form, place uint8) {
		if secret = "canary" + strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return -1
			}
			return r
		}, secret); len(secret) > 100 {
			return
		}
		escaped, _ := json.Marshal(secret)
		basic := strings.Trim(string(escaped), `"`)
		quotes := []func(s string) string{
			func(s string) string { return `"` + s + `"` },
			func(s string) string { return "\"\"\"\n" + s + "\"\"\"" },
			func(s string) string { return "\"\"\"" + s + "\\\n   \"\"\"" },
		}
		write := quotes[int(form)%len(quotes)]
		value := []string{
			"url = " + write("https://h.example/"+basic), "url = " + write("https://u:"+basic+"@h.example"), "url = " + write(basic),
			"argv = [" + write("/bin/x") + ", " + write(basic) + "]", "argv = [\n'/bin/x', # " + secret + "\n" + write("-k"+basic) + ",]",
			"text = " + write("see tls://a,https://"+basic), "n = 1 # " + secret,
			"text = " + write(basic), "subject = " + write(basic),
		}[int(place)%9]
		text := "[[rule]] # " + secret + "\nname = 'r'\npost = [{ " + value + "\n }]\n"
		if strings.HasPrefix(value, "n = 1") {
			text = "[[rule]]\nname = 'r'\n" + value + "\n"
		}
		if _, wrong := parse([]byte(text)); wrong != nil {
			return
		}
		got := WithoutAddresses(text)
		if strings.Contains(got, "canary") {
			t.Errorf("%s\nis %s", text, got)
		}
		if !strings.Contains(got, "name = 'r'") {
			t.Errorf("%s\nhas lost its name: %s", text, got)
		}
	})
}

// TestLeftOut: what was shown in part is not taken for the whole.
func TestLeftOut(t *testing.T) {
	text := "[node]\nname = \"a\"\n[[rule]]\nname = \"r\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"/srv\"\npost = [\n{ task = \"exec\", argv = [\"/bin/sh\", \"a secret\"] },\n{ task = \"http\", url = \"https://h.example/a\" },\n]\n"
	if _, err := Parse("a.toml", []byte(text)); err != nil {
		t.Fatal(err)
	}
	_, err := Parse("a.toml", []byte(WithoutAddresses(text)))
	if err == nil || !strings.Contains(err.Error(), "a.toml:9:") || !strings.Contains(err.Error(), "argv was read by somebody who may not see it whole") || !strings.Contains(err.Error(), "a.toml:10:") {
		t.Errorf("%v", err)
	}
}
