package command

import (
	"errors"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string // all of stderr; "": something on stdout instead
	}{
		{"", Done, ""},
		{"--help", Done, ""},
		{"copy --help", Done, ""},
		{"version", Done, ""},
		{"--version", Done, ""},
		{"copy --version", Usage, "tool: read flags: invalid argument: unknown flag: --version\n  See: tool copy --help\n"},
		{"completion bash", Done, ""},
		{"completion zsh", Done, ""},
		{"completion fish", Done, ""},
		{"__complete co", Done, "Completion ended with directive: ShellCompDirectiveNoFileComp\n"},
		{"fly", Usage, "tool: read arguments: invalid argument: \"fly\" is one too many or not known here\n  See: tool --help\n"},
		{"copi", Usage, "tool: read arguments: invalid argument: \"copi\" is one too many or not known here; did you mean \"copy\"?\n  See: tool --help\n"},
		{"version now", Usage, "tool: read arguments: invalid argument: \"now\" is one too many or not known here\n  See: tool version --help\n"},
		{"help", Done, ""},
		{"help copy", Done, ""},
		{"help exit-codes", Done, ""},
		{"help fly", Usage, "tool: find help: invalid argument: tool has no command \"fly\", and there is no such topic\n  See: tool --help\n"},
		{"help copi", Usage, "tool: find help: invalid argument: tool has no command \"copi\", and there is no such topic; did you mean \"copy\"?\n  See: tool --help\n"},
		{"help exit-code", Usage, "tool: find help: invalid argument: tool has no command \"exit-code\", and there is no such topic; did you mean \"exit-codes\"?\n  See: tool --help\n"},
		{"copy a", Usage, "tool: read arguments: invalid argument: 1 of 2 arguments\n  Write: tool copy FROM TO [flags]\n"},
		{"--colour", Usage, "tool: read flags: invalid argument: unknown flag: --colour\n  See: tool --help\n"},
		{"copy a b", NotFound, "tool: copy: not found: no \\x1b[31msuch\n  file\n"},
	} {
		code, out, messages := run(strings.Fields(c.args)...)
		if code != c.code || messages != c.want || (out == "") != (code != Done) {
			t.Errorf("%s: %d\n%s%q", c.args, code, out, messages)
		}
	}
	if _, _, messages := run("copy", "--size", "8Gb"); !strings.Contains(messages, "write it as 10GB") {
		t.Error(messages)
	}
	_, command, _ := run("version")
	if _, flag, _ := run("--version"); flag != command || !strings.HasPrefix(flag, "tool ") {
		t.Errorf("--version says %q, version %q", flag, command)
	}
	if _, out, _ := run("--help"); !strings.Contains(out, "Exit codes: tool help exit-codes") || !strings.HasPrefix(out, "A tool.") {
		t.Error(out)
	}
}

func TestSuggestions(t *testing.T) {
	inner := Suggest(fault.New("send", fault.NoSpace, "full").Advise("set Quota"), "Give --quota.")
	outer := Suggest(fault.New("put", fault.NoSpace, "%w", inner), "Run it again.")
	if got := Suggestions(outer); got != "Give --quota.\nRun it again." {
		t.Errorf("%q", got)
	}
	if got := Cause(outer); got != "put: no space: send: no space: full" {
		t.Errorf("%q", got)
	}
	if Suggest(nil, "x") != nil || Suggestions(errors.New("x")) != "" {
		t.Error("something out of nothing")
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain ä 名 \n": "plain ä 名 \n", "a\x1b]0;x\x07": `a\x1b]0;x\a`, "\u202e\r\t": `\u202e\r\t`, "\x9b": "\ufffd", "\u009b": `\u009b`,
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
